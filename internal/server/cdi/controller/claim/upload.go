package claim

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
	"virtctl/internal/server/cdi/controller/issue"
	"virtctl/internal/server/cdi/controller/workerpod"
)

// renderUpload makes an upload server. Its certificate is made first, so that the pod knows when it ends; the Secret follows the
// pod, which owns it.
func (r *Reconciler) renderUpload(ctx context.Context, p *pass, s *workerpod.Settings) (*corev1.Pod, func(context.Context, *corev1.Pod) error, error) {
	client, err := r.uploadClient(ctx, p)
	if err != nil || client == "" {
		return nil, nil, err
	}
	pair, deadline, err := r.serverPair(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	authority, err := r.bundle(ctx, names.BundleUploadClient)
	if err != nil {
		return nil, nil, err
	}
	// The Secret of a pod before goes some time after the pod: another name keeps out of its way.
	secret := names.Resource(workerpod.UploadName(p.claim), rand.String(5))
	u := workerpod.Upload{Secret: secret, Client: client, Deadline: deadline}
	if p.claim.Annotations[names.AnnRequiresScratch] == yes {
		u.Scratch = workerpod.ScratchName(p.claim)
		if err := r.scratchIsFree(ctx, p.claim.Namespace, u.Scratch); err != nil {
			return nil, nil, err
		}
	}
	if err := r.makeService(ctx, p.claim); err != nil {
		return nil, nil, err
	}
	after := func(ctx context.Context, pod *corev1.Pod) error {
		if err := r.Client.Create(ctx, workerpod.UploadSecret(pod, secret, pair.Cert, pair.Key, authority)); err != nil {
			// Without it the pod cannot start: the next one gets another.
			_ = r.deletePod(ctx, pod)
			return fmt.Errorf("create the certificate of pod %s: %w", pod.Name, err)
		}
		if u.Scratch != "" {
			return r.makeScratch(ctx, p, pod)
		}
		return nil
	}
	return workerpod.UploadServer(p.claim, u, s), after, nil
}

// uploadClient is the name of who may send, or nothing when nobody may now.
func (r *Reconciler) uploadClient(ctx context.Context, p *pass) (string, error) {
	if p.job == uploading {
		return names.UploadClientName, nil
	}
	source, err := r.cloneable(ctx, p)
	if err != nil || source == nil {
		return "", err
	}
	client := cloneClient(source, p.claim)
	p.claim.Annotations[names.AnnUploadClientName] = client
	return client, nil
}

// serverPair makes an upload server's certificate, and tells when the server must be replaced.
func (r *Reconciler) serverPair(ctx context.Context, p *pass) (issue.Pair, time.Time, error) {
	authority, err := r.authority(ctx, names.SecretUploadSigner)
	if err != nil {
		return issue.Pair{}, time.Time{}, err
	}
	duration, renewBefore := p.settings.Certificate()
	pair, err := authority.Server(serverHosts(p.claim), r.Now(), duration)
	if err != nil {
		return issue.Pair{}, time.Time{}, err
	}
	return pair, deadline(pair.End, r.Now(), renewBefore), nil
}

// serverHosts are the names that an upload server goes by.
func serverHosts(claim *corev1.PersistentVolumeClaim) []string {
	service := names.Label(workerpod.UploadName(claim))
	return []string{service + "." + claim.Namespace + ".svc", service + "." + claim.Namespace, service}
}

// deadline is when a certificate must be renewed. One that the end of its authority cut short lasts half of what is left.
func deadline(end, now time.Time, renewBefore time.Duration) time.Time {
	if d := end.Add(-renewBefore); d.After(now.Add(time.Minute)) {
		return d
	}
	return now.Add(end.Sub(now) / 2)
}

func (r *Reconciler) authority(ctx context.Context, name string) (*issue.Authority, error) {
	secret := &corev1.Secret{}
	if err := r.Live.Get(ctx, client.ObjectKey{Namespace: r.Namespace, Name: name}, secret); err != nil {
		return nil, fmt.Errorf("read the signer %s/%s, which cdi-operator keeps: %w", r.Namespace, name, err)
	}
	return issue.NewAuthority(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
}

// bundle is the authorities that are valid now: more than one while they rotate.
func (r *Reconciler) bundle(ctx context.Context, name string) ([]byte, error) {
	bundle := &corev1.ConfigMap{}
	if err := r.Live.Get(ctx, client.ObjectKey{Namespace: r.Namespace, Name: name}, bundle); err != nil {
		return nil, fmt.Errorf("read the authorities %s/%s, which cdi-operator keeps: %w", r.Namespace, name, err)
	}
	return []byte(bundle.Data[names.BundleKey]), nil
}

// watchUpload follows an upload server.
func (r *Reconciler) watchUpload(ctx context.Context, p *pass) error {
	if err := r.makeService(ctx, p.claim); err != nil {
		return err
	}
	return r.followServer(ctx, p, names.EventUploadSucceeded, "Upload Successful")
}

// followServer writes down what an upload server does, for a person's upload or a clone.
func (r *Reconciler) followServer(ctx context.Context, p *pass, event, message string) error {
	a := p.claim.Annotations
	a[names.AnnUploadPod] = p.pod.Name
	a[names.AnnPodRestarts] = strconv.Itoa(restarts(p.pod))
	a[names.AnnPodSchedulable] = yes
	if _, stuck := unschedulable(p.pod); stuck && p.pod.Status.Phase == corev1.PodPending {
		a[names.AnnPodSchedulable] = no
	}
	observe(a, p.pod, names.AnnRunningCondition)
	e := lastEnd(p.pod)
	if e == nil {
		e = r.earlyEnd(p)
	}
	switch {
	case e == nil:
		a[names.AnnPodPhase] = string(p.pod.Status.Phase)
		a[names.AnnPodReady] = strconv.FormatBool(ready(p.pod))
		return errors.Join(r.keepScratch(ctx, p), r.listen(ctx, p))
	case e.message.DeadlinePassed != nil && *e.message.DeadlinePassed:
		// Its certificate nears its end. The one that follows goes on where this one stopped.
		a[names.AnnPodPhase], a[names.AnnPodReady] = "", no
		return r.deletePod(ctx, p.pod)
	case e.message.ScratchSpaceRequired != nil && *e.message.ScratchSpaceRequired && !usesScratch(p):
		a[names.AnnPodReady] = no
		return r.withScratch(ctx, p, e)
	case e.message.Fatal:
		a[names.AnnPodReady] = no
		r.giveUp(p, e, "")
		return r.deletePod(ctx, p.pod)
	case e.code == 0:
		outcome(p.claim, &e.message)
		labels(p.claim, &e.message)
		a[names.AnnPodPhase], a[names.AnnPodReady] = string(corev1.PodSucceeded), no
		r.tell(p, corev1.EventTypeNormal, event, "%s", message)
		return nil
	}
	a[names.AnnPodReady] = no
	if p.pod.Status.Phase == corev1.PodFailed {
		a[names.AnnPodPhase] = string(corev1.PodPending)
		return r.again(ctx, p)
	}
	a[names.AnnPodPhase] = string(p.pod.Status.Phase)
	return nil
}

func (r *Reconciler) makeService(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	want, have := workerpod.UploadService(claim), &corev1.Service{}
	err := r.Client.Get(ctx, client.ObjectKeyFromObject(want), have)
	if err == nil {
		if !metav1.IsControlledBy(have, claim) {
			return fmt.Errorf("service %s/%s is in the way: it does not belong to claim %s; delete it", have.Namespace, have.Name, claim.Name)
		}
		return nil
	}
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("read service %s: %w", want.Name, err)
	}
	if err := r.Client.Create(ctx, want); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create service %s/%s: %w", want.Namespace, want.Name, err)
	}
	return nil
}

func (r *Reconciler) removeService(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	have := &corev1.Service{}
	err := r.Client.Get(ctx, client.ObjectKeyFromObject(workerpod.UploadService(claim)), have)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the upload service of %s: %w", claim.Name, err)
	}
	if have.DeletionTimestamp != nil || !metav1.IsControlledBy(have, claim) {
		return nil
	}
	if err := r.Client.Delete(ctx, have); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete service %s/%s: %w", have.Namespace, have.Name, err)
	}
	return nil
}
