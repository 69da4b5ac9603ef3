// Package claim runs the pods that fill claims. A claim says by its annotations what it wants: an import, an upload or a clone;
// whoever wrote them, a DataVolume's controller or a person, does not matter. What becomes of it is written back as annotations.
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
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"virtctl/internal/cdi/names"
	"virtctl/internal/server/cdi/controller/clonetoken"
	"virtctl/internal/server/cdi/controller/early"
	"virtctl/internal/server/cdi/controller/settings"
	"virtctl/internal/server/cdi/controller/workerpod"
	"virtctl/internal/server/writer"
)

// maxRestarts is how often an import is tried again. kubelet waits longer each time: it comes to about half an hour.
const maxRestarts = 10

// Options are what the reconciler works with.
type Options struct {
	Client client.Client
	// Live reads what is not worth caching, or must not be old.
	Live     client.Reader
	Recorder record.EventRecorder
	Settings *settings.Source
	// Namespace is where the platform is installed.
	Namespace string
	// Tokens tells whether a clone's token allows it.
	Tokens *clonetoken.Keeper
	// Ear hears from upload servers before the kubelet does.
	Ear *early.Ear
	Now func() time.Time
}

// Reconciler works on claims.
type Reconciler struct {
	Options
	claims *writer.Writer
}

// New gives a Reconciler.
func New(o Options) *Reconciler {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Reconciler{Options: o, claims: writer.New(o.Client)}
}

// job is what a claim wants.
type job int

const (
	nothing job = iota
	importing
	uploading
	cloning
)

func jobOf(c *corev1.PersistentVolumeClaim) job {
	a := c.Annotations
	_, external := a[names.AnnExternalPopulation]
	_, upload := a[names.AnnUploadRequest]
	switch {
	case external:
	case a[names.AnnCloneRequest] != "":
		return cloning
	case upload:
		return uploading
	case a[names.AnnSource] != "" || a[names.AnnEndpoint] != "":
		return importing
	}
	return nothing
}

// pass is one reconciliation.
type pass struct {
	before, claim *corev1.PersistentVolumeClaim
	job           job
	settings      *settings.Current
	pod           *corev1.Pod
	// events are told after the write that they are about.
	events []func()
}

// Reconcile brings a claim one step further.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	claim := &corev1.PersistentVolumeClaim{}
	if err := r.Client.Get(ctx, req.NamespacedName, claim); err != nil {
		if apierrors.IsNotFound(err) {
			r.claims.Forget(req.NamespacedName)
			r.Ear.Forget(req.NamespacedName)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("read claim %s: %w", req, err)
	}
	p := &pass{before: claim, claim: claim.DeepCopy(), job: jobOf(claim)}
	if p.job == nothing || r.claims.Stale(claim) {
		return reconcile.Result{}, nil
	}
	if p.claim.Annotations == nil {
		p.claim.Annotations = map[string]string{}
	}
	err := r.step(ctx, p)
	wrote, writeErr := r.claims.Patch(ctx, p.before, p.claim)
	if writeErr == nil && (wrote || equalMeta(p.before, p.claim)) {
		for _, tell := range p.events {
			tell()
		}
	}
	if writeErr != nil {
		writeErr = fmt.Errorf("write claim %s: %w", req, writeErr)
	}
	return reconcile.Result{}, errors.Join(err, writeErr)
}

func equalMeta(a, b *corev1.PersistentVolumeClaim) bool {
	diff, err := client.MergeFrom(a).Data(b)
	return err == nil && string(diff) == "{}"
}

func (r *Reconciler) step(ctx context.Context, p *pass) error {
	var err error
	if p.pod, err = r.ownPod(ctx, p); err != nil {
		return err
	}
	if finished(p.claim) || p.claim.DeletionTimestamp != nil {
		r.Ear.Forget(client.ObjectKeyFromObject(p.claim))
		return r.clean(ctx, p)
	}
	if p.claim.Status.Phase == corev1.ClaimLost {
		return nil
	}
	if p.settings, err = r.Settings.Load(ctx); err != nil {
		return err
	}
	if p.pod == nil {
		return r.start(ctx, p)
	}
	if p.pod.DeletionTimestamp != nil {
		if p.job != importing {
			p.claim.Annotations[names.AnnPodReady] = no
		}
		return nil // its end brings us back
	}
	if !placed(p.pod) {
		return nil // the scheduler writes on the claim now: it would begin anew, a second later, if we wrote as well
	}
	switch p.job {
	case importing:
		return r.watchImport(ctx, p)
	case uploading:
		return r.watchUpload(ctx, p)
	default:
		return r.watchClone(ctx, p)
	}
}

// placed tells that the pod has a node, or that there is none for it.
func placed(pod *corev1.Pod) bool {
	_, stuck := unschedulable(pod)
	return pod.Spec.NodeName != "" || stuck || pod.Status.Phase != corev1.PodPending
}

// finished tells that there is nothing more to do for the claim.
func finished(c *corev1.PersistentVolumeClaim) bool {
	a := c.Annotations
	if a[names.AnnCheckpointCurrent] != "" && a[names.AnnMultiStageImportDone] != yes {
		return a[names.AnnImportFatalError] == yes
	}
	return a[names.AnnPodPhase] == string(corev1.PodSucceeded) || a[names.AnnImportFatalError] == yes
}

// podName is the worker's that writes into the claim.
func podName(p *pass) string {
	if p.job == importing {
		return workerpod.ImporterName(p.claim)
	}
	return workerpod.UploadName(p.claim)
}

func (r *Reconciler) ownPod(ctx context.Context, p *pass) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: p.claim.Namespace, Name: podName(p)}, pod)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read pod %s: %w", podName(p), err)
	}
	if !metav1.IsControlledBy(pod, p.claim) {
		return nil, fmt.Errorf("pod %s/%s is in the way: it does not belong to claim %s; delete it", pod.Namespace, pod.Name, p.claim.Name)
	}
	return pod, nil
}

// clean removes what is not needed any more.
func (r *Reconciler) clean(ctx context.Context, p *pass) error {
	if p.job != importing {
		if err := r.removeService(ctx, p.claim); err != nil {
			return err
		}
	}
	if p.job == cloning {
		if err := r.removeSource(ctx, p); err != nil {
			return err
		}
	}
	if p.pod == nil || p.pod.DeletionTimestamp != nil {
		return nil
	}
	if p.claim.Annotations[names.AnnPodRetain] == yes && p.claim.DeletionTimestamp == nil && p.claim.Annotations[names.AnnImportFatalError] != yes {
		return nil
	}
	return r.deletePod(ctx, p.pod)
}

// deletePod deletes exactly this pod.
func (r *Reconciler) deletePod(ctx context.Context, pod *corev1.Pod) error {
	err := r.Client.Delete(ctx, pod, client.Preconditions{UID: &pod.UID})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

// again deletes a pod that cannot go on, so that another takes its place. It counts as a restart.
func (r *Reconciler) again(ctx context.Context, p *pass) error {
	p.claim.Annotations[names.AnnPodRestarts] = strconv.Itoa(restarts(p.pod) + 1)
	return r.deletePod(ctx, p.pod)
}

func (r *Reconciler) tell(p *pass, kind, reason, format string, args ...any) {
	claim := p.before
	p.events = append(p.events, func() { r.Recorder.Eventf(claim, kind, reason, format, args...) })
}
