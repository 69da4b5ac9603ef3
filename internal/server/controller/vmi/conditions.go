package vmi

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/libvirt/layout"
	"virtctl/internal/server/controller/condition"
	"virtctl/internal/server/controller/launcherpod"
)

// kubeletNotReady is what kubelet says of a pod whose readiness gate is closed.
const kubeletNotReady = "ReadinessGatesNotReady"

// ownReason tells whether a reason of Synchronized=False is one of ours: those we take back when they no longer hold,
// virt-handler's we leave alone.
func ownReason(reason string) bool {
	switch reason {
	case reasonNoClaim, reasonNotPopulated, reasonCreateFailed, "FailedMount", "FailedAttachVolume":
		return true
	}
	return containerReason(reason)
}

// containerReason tells whether kubelet gives this reason for a container that cannot start.
func containerReason(reason string) bool {
	switch reason {
	case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable",
		"SignatureValidationFailed", "CreateContainerConfigError", "CreateContainerError", "RunContainerError":
		return true
	}
	return false
}

// unsynchronized sets Synchronized=False. It tells whether that is news.
func (r *Reconciler) unsynchronized(p *pass, reason, message string) bool {
	return condition.Set(p.vmi, v1.VirtualMachineInstanceCondition{
		Type: v1.VirtualMachineInstanceSynchronized, Status: corev1.ConditionFalse, Reason: reason, Message: message,
	}, r.Now())
}

// openGate tells kubelet whether the guest takes part in the pod's readiness: it does while it runs and is not paused.
func (r *Reconciler) openGate(ctx context.Context, p *pass) error {
	if p.pod == nil {
		return nil
	}
	p.gate = podCondition(p.pod, v1.VirtualMachineUnpaused).Status
	if !p.vmi.IsRunning() || p.pod.DeletionTimestamp != nil || podEnded(p.pod) {
		return nil
	}
	want, reason := corev1.ConditionTrue, "NotPaused"
	if condition.Is(p.vmi, v1.VirtualMachineInstancePaused, corev1.ConditionTrue) {
		want, reason = corev1.ConditionFalse, "Paused"
	}
	if p.gate == want {
		return nil
	}
	if r.gateSet(p, want) {
		p.gate = want // the cache does not show our patch yet
		return nil
	}
	if err := r.patchGate(ctx, p.pod, corev1.PodCondition{
		Type: v1.VirtualMachineUnpaused, Status: want, Reason: reason, LastTransitionTime: metav1.NewTime(r.Now()),
	}); err != nil {
		return err
	}
	p.gate = want
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gated[client.ObjectKeyFromObject(p.vmi)] = gateVersion{p.pod.UID, p.pod.ResourceVersion, want}
	return nil
}

// gateSet tells whether the gate was set so already on this very version of the pod.
func (r *Reconciler) gateSet(p *pass, want corev1.ConditionStatus) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gated[client.ObjectKeyFromObject(p.vmi)] == gateVersion{p.pod.UID, p.pod.ResourceVersion, want}
}

func (r *Reconciler) patchGate(ctx context.Context, pod *corev1.Pod, c corev1.PodCondition) error {
	// The UID keeps the patch from a successor of the same name; conditions merge by type.
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID},
		"status":   map[string]any{"conditions": []corev1.PodCondition{c}},
	})
	if err != nil {
		return fmt.Errorf("write the readiness gate: %w", err)
	}
	target := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	err = r.Client.Status().Patch(ctx, target, client.RawPatch(types.StrategicMergePatchType, patch))
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("set the readiness gate of pod %s: %w", pod.Name, err)
	}
	return nil
}

// podCondition gives a condition of a pod; an absent one has no status.
func podCondition(pod *corev1.Pod, t corev1.PodConditionType) corev1.PodCondition {
	for _, c := range pod.Status.Conditions {
		if c.Type == t {
			return c
		}
	}
	return corev1.PodCondition{}
}

// patience is how long a VMI may be on its way out before its conditions say so: most are gone sooner, and the write with them.
// It is longer than stopTime.
const patience = 4 * time.Second

// showConditions shows what the pod says about itself.
func (r *Reconciler) showConditions(_ context.Context, p *pass) error {
	if t := p.vmi.DeletionTimestamp; t != nil {
		if left := patience - r.Now().Sub(t.Time); left > 0 {
			p.again(left)
			return nil
		}
	}
	if p.vmi.IsFinal() {
		condition.Remove(p.vmi, condition.PodScheduled)
	} else {
		r.showScheduling(p)
		r.showProblems(p)
	}
	ready := r.ready(p)
	// kubelet's wording may change without meaning more; a status or a reason may not.
	if old := condition.Of(p.vmi, ready.Type); old != nil && old.Status == ready.Status && old.Reason == ready.Reason {
		return nil
	}
	condition.Set(p.vmi, ready, r.Now())
	return nil
}

func (r *Reconciler) showScheduling(p *pass) {
	if p.pod == nil {
		return
	}
	scheduled := podCondition(p.pod, corev1.PodScheduled)
	if scheduled.Status != corev1.ConditionFalse {
		condition.Remove(p.vmi, condition.PodScheduled)
		return
	}
	condition.Set(p.vmi, v1.VirtualMachineInstanceCondition{
		Type: condition.PodScheduled, Status: corev1.ConditionFalse, Reason: scheduled.Reason, Message: scheduled.Message,
	}, r.Now())
}

// showProblems says why a pod that exists does not come up, and takes that back when it does.
func (r *Reconciler) showProblems(p *pass) {
	if p.pod == nil {
		return
	}
	reason, message := r.problem(p.pod)
	if reason != "" {
		r.unsynchronized(p, reason, message)
		return
	}
	if ownReason(condition.Reason(p.vmi, v1.VirtualMachineInstanceSynchronized)) {
		condition.Remove(p.vmi, v1.VirtualMachineInstanceSynchronized)
	}
}

func (r *Reconciler) problem(pod *corev1.Pod) (reason, message string) {
	compute := computeStatus(pod)
	if compute == nil || compute.State.Waiting == nil {
		return "", ""
	}
	if w := compute.State.Waiting; containerReason(w.Reason) {
		return w.Reason, w.Message
	}
	if r.MountFailures != nil {
		return r.MountFailures.Of(pod.UID)
	}
	return "", ""
}

// ready derives the VMI's readiness from its pod's. Once the gate is open and the containers are ready the pod is: kubelet
// only has to write it down, and we need not wait for that.
func (r *Reconciler) ready(p *pass) v1.VirtualMachineInstanceCondition {
	no := func(reason, message string) v1.VirtualMachineInstanceCondition {
		return v1.VirtualMachineInstanceCondition{
			Type: v1.VirtualMachineInstanceReady, Status: corev1.ConditionFalse, Reason: reason, Message: message,
		}
	}
	switch {
	case p.pod == nil:
		return no(v1.PodNotExistsReason, "virt-launcher pod has not yet been scheduled")
	case p.pod.DeletionTimestamp != nil:
		return no(v1.PodTerminatingReason, "virt-launcher pod is terminating")
	case !p.vmi.IsRunning():
		return no(v1.GuestNotRunningReason, "Guest VM is not reported as running")
	}
	pod := podCondition(p.pod, corev1.PodReady)
	containers := podCondition(p.pod, corev1.ContainersReady)
	switch {
	case p.gate == corev1.ConditionTrue && containers.Status == corev1.ConditionTrue:
		return v1.VirtualMachineInstanceCondition{Type: v1.VirtualMachineInstanceReady, Status: corev1.ConditionTrue}
	case p.gate == corev1.ConditionTrue && !containerKnown(p.pod) && condition.Is(p.vmi, v1.VirtualMachineInstanceReady, corev1.ConditionTrue):
		// virt-handler, which talks to the launcher, knows sooner than kubelet tells.
		return *condition.Of(p.vmi, v1.VirtualMachineInstanceReady)
	case p.gate == corev1.ConditionFalse:
		return no(kubeletNotReady, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but False", v1.VirtualMachineUnpaused))
	case pod.Status == "":
		return no(v1.PodConditionMissingReason, "virt-launcher pod is missing the Ready condition")
	}
	return v1.VirtualMachineInstanceCondition{
		Type: v1.VirtualMachineInstanceReady, Status: pod.Status, Reason: pod.Reason, Message: pod.Message,
	}
}

// containerKnown tells whether kubelet has told that the launcher runs, or has run.
func containerKnown(pod *corev1.Pod) bool {
	compute := computeStatus(pod)
	return compute != nil && (compute.State.Running != nil || compute.State.Terminated != nil)
}

// showLauncher notes what is known about the pod once it exists. virt-handler has written most of it together with the guest's start.
func (r *Reconciler) showLauncher(_ context.Context, p *pass) error {
	if p.pod == nil || p.vmi.IsFinal() || p.vmi.DeletionTimestamp != nil {
		return nil
	}
	s := &p.vmi.Status
	noteScheduling(p.vmi, p.pod.CreationTimestamp)
	if s.QOSClass == nil && p.pod.Status.QOSClass != "" {
		class := p.pod.Status.QOSClass
		s.QOSClass = &class
	}
	s.MigrationTransport = v1.MigrationTransportUnix
	if image := computeImage(p.pod); image != "" {
		s.LauncherContainerImageVersion = image
		setLabel(p.vmi, v1.OutdatedLauncherImageLabel, image != r.LauncherImage)
	}
	if s.Memory == nil {
		s.Memory = &v1.MemoryStatus{}
	}
	if s.Memory.MemoryOverhead == nil {
		overhead := launcherpod.Overhead(p.vmi, r.Config.Get())
		s.Memory.MemoryOverhead = &overhead
	}
	return nil
}

func setLabel(vmi *v1.VirtualMachineInstance, label string, on bool) {
	if !on {
		delete(vmi.Labels, label)
		return
	}
	if vmi.Labels == nil {
		vmi.Labels = map[string]string{}
	}
	vmi.Labels[label] = ""
}

func computeImage(pod *corev1.Pod) string {
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == layout.ComputeContainer {
			return pod.Spec.Containers[i].Image
		}
	}
	return ""
}
