package vmi

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"virtctl/internal/libvirt/layout"
)

// handlerTime is how long virt-handler has to report how a guest ended before we conclude it from the pod.
const handlerTime = 5 * time.Second

// Reasons of a VMI that failed with its pod.
const (
	reasonPodGone   = "PodGone"
	reasonPodFailed = "PodFailed"
)

// admit does what the admission webhook does, for VMIs that were made while it was away.
func (r *Reconciler) admit(_ context.Context, p *pass) error {
	if p.vmi.DeletionTimestamp != nil || p.vmi.IsFinal() {
		return nil
	}
	if !controllerutil.ContainsFinalizer(p.vmi, v1.DeprecatedVirtualMachineInstanceFinalizer) {
		controllerutil.AddFinalizer(p.vmi, v1.VirtualMachineInstanceFinalizer)
	}
	if p.vmi.Status.Phase == v1.VmPhaseUnset {
		r.setPhase(p.vmi, v1.Pending)
	}
	if p.vmi.Status.RuntimeUser == 0 {
		p.vmi.Status.RuntimeUser = layout.UID
	}
	return nil
}

func (r *Reconciler) setPhase(vmi *v1.VirtualMachineInstance, phase v1.VirtualMachineInstancePhase) {
	vmi.Status.Phase = phase
	vmi.Status.PhaseTransitionTimestamps = append(vmi.Status.PhaseTransitionTimestamps,
		v1.VirtualMachineInstancePhaseTransitionTimestamp{Phase: phase, PhaseTransitionTimestamp: metav1.NewTime(r.Now())})
}

// advance moves the phase as far as the pod's fate decides it.
func (r *Reconciler) advance(ctx context.Context, p *pass) error {
	if p.vmi.IsFinal() || p.vmi.DeletionTimestamp != nil {
		return nil
	}
	switch {
	case p.pod == nil && p.vmi.IsUnprocessed():
		return nil
	case p.pod == nil:
		return r.podLost(ctx, p)
	case podEnded(p.pod):
		r.podEnded(p)
	case p.vmi.IsUnprocessed():
		r.setPhase(p.vmi, v1.Scheduling)
	}
	return nil
}

// podLost: the cache knows no pod of a VMI that had one.
func (r *Reconciler) podLost(ctx context.Context, p *pass) error {
	pod, err := r.livePod(ctx, p.vmi)
	if err != nil {
		return err
	}
	if pod != nil {
		p.pod = pod // the cache has not seen it yet, or somebody took its label away
		return nil
	}
	r.fail(p, reasonPodGone, "the launcher pod is gone, and the guest with it")
	return nil
}

func (r *Reconciler) fail(p *pass, reason, message string) {
	r.setPhase(p.vmi, v1.Failed)
	p.vmi.Status.Reason = reason
	r.unsynchronized(p, reason, message)
	r.event(p.vmi, corev1.EventTypeWarning, reason, "Fail", message)
}

func podEnded(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// launcherEnded tells that nothing runs in the pod any more. The pod's phase says so a second later, when kubelet has tidied up.
func launcherEnded(pod *corev1.Pod) bool {
	compute := computeStatus(pod)
	return podEnded(pod) || compute != nil && compute.State.Terminated != nil
}

// podEnded: virt-handler knows best how the guest ended, unless it never saw it.
func (r *Reconciler) podEnded(p *pass) {
	end := computeStatus(p.pod)
	started := end != nil && end.State.Terminated != nil
	if started {
		if wait := handlerTime - r.Now().Sub(end.State.Terminated.FinishedAt.Time); wait > 0 {
			p.again(wait)
			return
		}
	}
	switch {
	case p.pod.Status.Phase == corev1.PodSucceeded && p.vmi.DeletionTimestamp == nil && !guestStarted(p.vmi):
		r.fail(p, reasonPodFailed, "the launcher pod was ended before the guest was started")
	case p.pod.Status.Phase == corev1.PodSucceeded:
		r.setPhase(p.vmi, v1.Succeeded)
	case started:
		t := end.State.Terminated
		r.fail(p, reasonPodFailed, fmt.Sprintf("the launcher ended with exit code %d (%s): %s", t.ExitCode, t.Reason, t.Message))
	case p.pod.Status.Reason != "":
		// kubelet refused the pod: Evicted, UnexpectedAdmissionError, NodeAffinity ...
		r.fail(p, p.pod.Status.Reason, p.pod.Status.Message)
	default:
		r.fail(p, reasonPodFailed, "the launcher pod failed: "+p.pod.Status.Message)
	}
}

// guestStarted tells that virt-handler has seen the guest run.
func guestStarted(vmi *v1.VirtualMachineInstance) bool {
	return vmi.Status.Phase == v1.Running || slices.ContainsFunc(vmi.Status.PhaseTransitionTimestamps,
		func(t v1.VirtualMachineInstancePhaseTransitionTimestamp) bool { return t.Phase == v1.Running })
}

func computeStatus(pod *corev1.Pod) *corev1.ContainerStatus {
	for i := range pod.Status.ContainerStatuses {
		if pod.Status.ContainerStatuses[i].Name == layout.ComputeContainer {
			return &pod.Status.ContainerStatuses[i]
		}
	}
	return nil
}

// finalize lets a deleted VMI go when no pod of it is left.
func (r *Reconciler) finalize(ctx context.Context, p *pass) error {
	if p.vmi.DeletionTimestamp == nil || len(p.pods) > 0 {
		return nil
	}
	pod, err := r.livePod(ctx, p.vmi)
	if err != nil {
		return err
	}
	if pod != nil {
		// Made in a pass whose pod the cache has not seen yet.
		p.pods = []corev1.Pod{*pod}
		return r.deletePods(ctx, p)
	}
	if !p.vmi.IsFinal() {
		// Asked to go and gone; virt-handler saves its own write in that case.
		r.setPhase(p.vmi, v1.Succeeded)
	}
	controllerutil.RemoveFinalizer(p.vmi, v1.VirtualMachineInstanceFinalizer)
	controllerutil.RemoveFinalizer(p.vmi, v1.DeprecatedVirtualMachineInstanceFinalizer)
	return nil
}
