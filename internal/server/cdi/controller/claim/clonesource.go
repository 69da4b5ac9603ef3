package claim

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/token"
	"virtctl/internal/server/cdi/controller/clonetoken"
	"virtctl/internal/server/cdi/controller/index"
	"virtctl/internal/server/cdi/controller/workerpod"
)

// SourceOf gives the claim that a claim is cloned from.
func SourceOf(target *corev1.PersistentVolumeClaim) (namespace, name string, ok bool) {
	namespace, name, ok = strings.Cut(target.Annotations[names.AnnCloneRequest], "/")
	return namespace, name, ok && namespace != "" && name != "" && !strings.Contains(name, "/")
}

// cloneClient is the name in the certificate of the one pod that may write to the target.
func cloneClient(source, target *corev1.PersistentVolumeClaim) string {
	return fmt.Sprintf("%s/%s-%s/%s", source.Namespace, source.Name, target.Namespace, target.Name)
}

// cloneable gives the source when it may be read and fits; otherwise it says on the claim why not.
func (r *Reconciler) cloneable(ctx context.Context, p *pass) (*corev1.PersistentVolumeClaim, error) {
	refuse := func(format string, args ...any) {
		a, message := p.claim.Annotations, fmt.Sprintf(format, args...)
		if a[names.AnnRunningCondition+names.SuffixMessage] != message {
			a[names.AnnRunningCondition], a[names.AnnRunningCondition+names.SuffixReason] = no, names.EventErrUnableToClone
			a[names.AnnRunningCondition+names.SuffixMessage] = message
			r.tell(p, corev1.EventTypeWarning, names.EventErrUnableToClone, "%s", message)
		}
	}
	namespace, name, ok := SourceOf(p.claim)
	if !ok {
		refuse("annotation %s must be namespace/name, not %q", names.AnnCloneRequest, p.claim.Annotations[names.AnnCloneRequest])
		return nil, nil
	}
	target := clonetoken.Target{Namespace: p.claim.Namespace, Name: p.claim.Name, UID: types.UID(p.claim.Annotations[names.AnnCreatedForVolume])}
	if target.UID == "" {
		target.UID = p.claim.UID
	}
	switch err := r.Tokens.Check(ctx, p.claim.Annotations, clonetoken.Source{Namespace: namespace, Name: name}, target); {
	case errors.Is(err, token.ErrInvalid):
		refuse("claim %s/%s may not be cloned: %v", namespace, name, err)
		return nil, nil
	case err != nil:
		return nil, err
	}
	source := &corev1.PersistentVolumeClaim{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, source)
	if apierrors.IsNotFound(err) {
		refuse("The source pvc %s/%s doesn't exist", namespace, name)
		return nil, nil // its creation brings us back
	}
	if err != nil {
		return nil, fmt.Errorf("read the source claim: %w", err)
	}
	if why := mismatch(source, p.claim); why != "" {
		refuse("%s", why)
		return nil, nil
	}
	return source, nil
}

// mismatch tells why the target cannot take the source's content.
func mismatch(source, target *corev1.PersistentVolumeClaim) string {
	from, to := workerpod.ContentType(source), workerpod.ContentType(target)
	if from != to {
		return fmt.Sprintf("source content type %s and target content type %s do not match", from, to)
	}
	if to == "archive" && workerpod.IsBlock(source) != workerpod.IsBlock(target) {
		return "source and target volume modes do not match, and the content is no disk image"
	}
	if workerpod.IsBlock(source) == workerpod.IsBlock(target) {
		have, want := target.Spec.Resources.Requests[corev1.ResourceStorage], source.Spec.Resources.Requests[corev1.ResourceStorage]
		if have.Cmp(want) < 0 {
			return fmt.Sprintf("target resources requests storage size %s is smaller than the source's %s", have.String(), want.String())
		}
	}
	return ""
}

// watchClone follows the two pods of a host-assisted clone.
func (r *Reconciler) watchClone(ctx context.Context, p *pass) error {
	if err := r.makeService(ctx, p.claim); err != nil {
		return err
	}
	sourcePod, err := r.sourcePod(ctx, p)
	if err != nil {
		return err
	}
	if sourcePod != nil {
		observe(p.claim.Annotations, sourcePod, names.AnnSourceRunningCondition)
		p.claim.Annotations[names.AnnCloneSourcePod] = sourcePod.Name
		if e := lastEnd(sourcePod); e != nil && (sourcePod.Status.Phase == corev1.PodFailed || e.message.Fatal) && sourcePod.DeletionTimestamp == nil {
			_, message := e.explain()
			r.tell(p, corev1.EventTypeWarning, names.EventCloneFailed, "%s", message)
			if e.message.Fatal {
				r.giveUp(p, e, "")
			}
			return r.deletePod(ctx, sourcePod)
		}
	} else if ready(p.pod) && p.pod.Status.Phase == corev1.PodRunning {
		if err := r.startSource(ctx, p); err != nil {
			return err
		}
	}
	return r.followServer(ctx, p, names.EventCloneSucceeded, "Clone Successful")
}

func (r *Reconciler) sourcePod(ctx context.Context, p *pass) (*corev1.Pod, error) {
	var list corev1.PodList
	if err := r.Client.List(ctx, &list, client.MatchingFields{index.CloneTarget: string(p.claim.UID)}); err != nil {
		return nil, fmt.Errorf("look for the clone's source pod: %w", err)
	}
	for i := range list.Items {
		return &list.Items[i], nil
	}
	return nil, nil
}

// startSource makes the pod that reads, once nobody writes to the source.
func (r *Reconciler) startSource(ctx context.Context, p *pass) error {
	source, err := r.cloneable(ctx, p)
	if err != nil || source == nil {
		return err
	}
	a := p.claim.Annotations
	writers, err := index.Users(ctx, r.Client, source.Namespace, source.Name, true)
	if err != nil {
		return err
	}
	if len(writers) > 0 {
		message := fmt.Sprintf("pod %s/%s using PersistentVolumeClaim %s", writers[0].Namespace, writers[0].Name, source.Name)
		if a[names.AnnSourceRunningCondition+names.SuffixMessage] != message {
			a[names.AnnSourceRunningCondition], a[names.AnnSourceRunningCondition+names.SuffixReason] = no, names.EventCloneSourceInUse
			a[names.AnnSourceRunningCondition+names.SuffixMessage] = message
			r.tell(p, corev1.EventTypeWarning, names.EventCloneSourceInUse, "%s", message)
		}
		return nil // the writer's end brings us back
	}
	// The finalizer comes before the pod: should the target be deleted, we must come back to remove it.
	if controllerutil.AddFinalizer(p.claim, names.FinalizerCloneSource) {
		return nil // the write brings us back
	}
	return r.createSource(ctx, p, source)
}

func (r *Reconciler) createSource(ctx context.Context, p *pass, source *corev1.PersistentVolumeClaim) error {
	authority, err := r.authority(ctx, names.SecretUploadClientSigner)
	if err != nil {
		return err
	}
	duration, _ := p.settings.Certificate()
	pair, err := authority.Client(cloneClient(source, p.claim), r.Now(), duration)
	if err != nil {
		return err
	}
	serverCA, err := r.bundle(ctx, names.BundleUpload)
	if err != nil {
		return err
	}
	secret := names.Resource(workerpod.CloneSourceName(p.claim), rand.String(5))
	pod := workerpod.CloneSource(source, p.claim, secret, serverCA, p.settings.Worker(className(source)))
	if err := r.Client.Create(ctx, pod); err != nil {
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return r.notStarted(p, pod, err)
	}
	if err := r.Client.Create(ctx, workerpod.CloneSecret(pod, secret, pair.Cert, pair.Key)); err != nil {
		_ = r.deletePod(ctx, pod)
		return fmt.Errorf("create the certificate of pod %s: %w", pod.Name, err)
	}
	return nil
}

// removeSource removes the reading pod and lets the target go.
func (r *Reconciler) removeSource(ctx context.Context, p *pass) error {
	pod, err := r.sourcePod(ctx, p)
	if err != nil {
		return err
	}
	retain := p.claim.Annotations[names.AnnPodRetain] == yes && p.claim.DeletionTimestamp == nil
	if pod != nil && pod.DeletionTimestamp == nil && !retain {
		if err := r.deletePod(ctx, pod); err != nil {
			return err
		}
	}
	controllerutil.RemoveFinalizer(p.claim, names.FinalizerCloneSource)
	return nil
}
