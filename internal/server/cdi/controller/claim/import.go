package claim

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
	"virtctl/internal/server/cdi/controller/index"
	"virtctl/internal/server/cdi/controller/workerpod"
)

// watchImport follows an importer.
func (r *Reconciler) watchImport(ctx context.Context, p *pass) error {
	a := p.claim.Annotations
	a[names.AnnImportPod] = p.pod.Name
	a[names.AnnPodRestarts] = strconv.Itoa(restarts(p.pod))
	a[names.AnnPodSchedulable] = yes
	if _, stuck := unschedulable(p.pod); stuck && p.pod.Status.Phase == corev1.PodPending {
		a[names.AnnPodSchedulable] = no
	}
	if a[names.AnnCheckpointCurrent] != "" {
		a[names.AnnCheckpointPodID] = string(p.pod.UID)
	}
	observe(a, p.pod, names.AnnRunningCondition)
	e := lastEnd(p.pod)
	switch {
	case e == nil:
		a[names.AnnPodPhase] = string(p.pod.Status.Phase)
		return r.keepScratch(ctx, p)
	case e.message.ScratchSpaceRequired != nil && *e.message.ScratchSpaceRequired && !usesScratch(p):
		return r.withScratch(ctx, p, e)
	case e.message.Fatal:
		r.giveUp(p, e, "")
		return r.deletePod(ctx, p.pod)
	case e.code == 0:
		// The pod's own phase follows a moment later.
		r.succeeded(p, e)
		return nil // the write brings us back to clean up
	}
	return r.failedOnce(ctx, p, e)
}

// failedOnce decides what follows an end that was no success: kubelet tries again, we do, or nobody does.
func (r *Reconciler) failedOnce(ctx context.Context, p *pass, e *end) error {
	a := p.claim.Annotations
	if p.before.Annotations[names.AnnPodRestarts] != a[names.AnnPodRestarts] || a[names.AnnPodPhase] == "" {
		_, message := e.explain()
		r.tell(p, corev1.EventTypeWarning, names.EventErrImportFailed, "%s", message)
	}
	count := restarts(p.pod)
	switch {
	case count >= maxRestarts:
		r.giveUp(p, e, fmt.Sprintf("gave up after %d tries: ", count))
		return r.deletePod(ctx, p.pod)
	case e.reason == names.ReasonOOMKilled && a[names.AnnRequiresDirectIO] != yes:
		// What the kernel keeps in memory for the file counts as the worker's: write around it.
		a[names.AnnRequiresDirectIO] = yes
		return r.again(ctx, p)
	case p.pod.Status.Phase == corev1.PodFailed:
		// Evicted, or its node is gone: kubelet does not start it again.
		a[names.AnnPodPhase] = string(corev1.PodPending)
		return r.again(ctx, p)
	}
	a[names.AnnPodPhase] = string(p.pod.Status.Phase)
	return nil
}

// succeeded notes the end of an import, or of one stage of it.
func (r *Reconciler) succeeded(p *pass, e *end) {
	a := p.claim.Annotations
	outcome(p.claim, &e.message)
	labels(p.claim, &e.message)
	a[names.AnnPodPhase] = string(corev1.PodSucceeded)
	if p.before.Annotations[names.AnnPodPhase] != a[names.AnnPodPhase] {
		r.tell(p, corev1.EventTypeNormal, names.EventImportSucceeded, "Import Successful")
	}
}

// giveUp ends an import for good.
func (r *Reconciler) giveUp(p *pass, e *end, why string) {
	a := p.claim.Annotations
	reason, message := e.explain()
	if e.message.Fatal && e.message.Reason == "" {
		reason = names.ReasonError
	}
	a[names.AnnRunningCondition] = no
	a[names.AnnRunningCondition+names.SuffixReason] = reason
	a[names.AnnRunningCondition+names.SuffixMessage] = why + message
	a[names.AnnPodPhase], a[names.AnnImportFatalError] = string(corev1.PodFailed), yes
	r.tell(p, corev1.EventTypeWarning, names.EventErrImportFailed, "%s%s", why, message)
}

// withScratch starts the pod again with scratch space, as much as it asked for.
func (r *Reconciler) withScratch(ctx context.Context, p *pass, e *end) error {
	a := p.claim.Annotations
	a[names.AnnRequiresScratch] = yes
	if e.message.ScratchBytes > 0 {
		a[annScratchBytes] = strconv.FormatInt(e.message.ScratchBytes, 10)
	}
	a[names.AnnPodPhase] = string(corev1.PodPending)
	return r.deletePod(ctx, p.pod)
}

func usesScratch(p *pass) bool {
	return slices.Contains(index.PodClaims(p.pod), workerpod.ScratchName(p.claim))
}

// keepScratch makes the scratch claim of a pod that waits for it, should an earlier try have been cut off.
func (r *Reconciler) keepScratch(ctx context.Context, p *pass) error {
	if p.claim.Annotations[names.AnnRequiresScratch] != yes || p.pod.Status.Phase != corev1.PodPending {
		return nil
	}
	scratch := &corev1.PersistentVolumeClaim{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: p.claim.Namespace, Name: workerpod.ScratchName(p.claim)}, scratch)
	if apierrors.IsNotFound(err) {
		return r.makeScratch(ctx, p, p.pod)
	}
	return err
}

func (r *Reconciler) makeScratch(ctx context.Context, p *pass, pod *corev1.Pod) error {
	size := p.claim.Spec.Resources.Requests[corev1.ResourceStorage]
	if bytes, err := strconv.ParseInt(p.claim.Annotations[annScratchBytes], 10, 64); err == nil && bytes > 0 {
		const slack = 1 << 20
		size = *resource.NewQuantity(bytes+bytes/10+slack, resource.BinarySI)
	}
	scratch := workerpod.Scratch(p.claim, pod, p.settings.ScratchClass(p.claim), size)
	err := r.Client.Create(ctx, scratch)
	switch {
	case err == nil:
		r.tell(p, corev1.EventTypeNormal, names.EventCreatingScratch, "Creating scratch space")
		return nil
	case apierrors.IsAlreadyExists(err):
		return nil
	case IsQuota(err):
		r.tell(p, corev1.EventTypeWarning, names.EventErrExceededQuota, "%v", err)
	}
	return fmt.Errorf("create scratch claim %s: %w", scratch.Name, err)
}

// scratchIsFree waits until the scratch claim of a pod before is gone; the error brings another try.
func (r *Reconciler) scratchIsFree(ctx context.Context, namespace, name string) error {
	old := &corev1.PersistentVolumeClaim{}
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, old)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for an old scratch claim: %w", err)
	}
	return fmt.Errorf("scratch claim %s/%s of the pod before is still there", namespace, name)
}

// copyBundle gives the importer the proxy's authority, which is in another namespace.
func (r *Reconciler) copyBundle(ctx context.Context, pod *corev1.Pod, from, to string) error {
	source := &corev1.ConfigMap{}
	if err := r.Live.Get(ctx, client.ObjectKey{Namespace: r.Namespace, Name: from}, source); err != nil {
		return fmt.Errorf("read the proxy's authority, ConfigMap %s/%s: %w", r.Namespace, from, err)
	}
	bundle := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Name: to, Namespace: pod.Namespace,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod"))},
		},
		Data: source.Data,
	}
	if err := r.Client.Create(ctx, bundle); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("copy the proxy's authority to %s/%s: %w", pod.Namespace, to, err)
	}
	return nil
}
