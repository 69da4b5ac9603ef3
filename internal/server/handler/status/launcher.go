package status

import (
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/libvirt/layout"
)

// Launcher is what a status tells of the pod that the guest runs in. virt-controller writes the same when it gets to it; told together
// with the guest's start it is one write instead of two.
type Launcher struct {
	Created  metav1.Time
	QOSClass corev1.PodQOSClass
	Image    string
	// Overhead is what virt-controller says that the machine needs beside its guest's memory, in bytes; 0 is not known.
	Overhead int64
	// Probed tells that the pod is ready when a probe says so, and not as soon as its guest runs.
	Probed bool
}

// LauncherOf is what a status tells of a pod.
func LauncherOf(pod *corev1.Pod) Launcher {
	l := Launcher{Created: pod.CreationTimestamp, QOSClass: pod.Status.QOSClass}
	if bytes, err := strconv.ParseInt(pod.Annotations[v1.MemoryOverheadAnnotationBytes], 10, 64); err == nil {
		l.Overhead = bytes
	}
	for i := range pod.Spec.Containers {
		if c := &pod.Spec.Containers[i]; c.Name == layout.ComputeContainer {
			l.Image, l.Probed = c.Image, c.ReadinessProbe != nil
		}
	}
	return l
}

// setLauncher adds what is known of the pod. Only the image changes in a machine's life: with a migration.
func setLauncher(status *v1.VirtualMachineInstanceStatus, l Launcher) {
	if l.Image != "" {
		status.LauncherContainerImageVersion = l.Image
	}
	if status.QOSClass == nil && l.QOSClass != "" {
		class := l.QOSClass
		status.QOSClass = &class
	}
	if l.Overhead > 0 && (status.Memory == nil || status.Memory.MemoryOverhead == nil) {
		if status.Memory == nil {
			status.Memory = &v1.MemoryStatus{}
		} else {
			status.Memory = status.Memory.DeepCopy()
		}
		status.Memory.MemoryOverhead = resource.NewQuantity(l.Overhead, resource.BinarySI)
	}
}

// noteScheduling tells when the pod was made, where that phase itself was not worth a write.
func noteScheduling(status *v1.VirtualMachineInstanceStatus, l Launcher) {
	if l.Created.IsZero() || slices.ContainsFunc(status.PhaseTransitionTimestamps, func(t v1.VirtualMachineInstancePhaseTransitionTimestamp) bool {
		return t.Phase == v1.Scheduling
	}) {
		return
	}
	status.PhaseTransitionTimestamps = append(slices.Clone(status.PhaseTransitionTimestamps),
		v1.VirtualMachineInstancePhaseTransitionTimestamp{Phase: v1.Scheduling, PhaseTransitionTimestamp: l.Created})
}

// setReady tells that a guest that has just begun to run is ready: without a probe nothing else is waited for but the pod's readiness
// gate, which virt-controller opens when it sees the guest run.
func setReady(status *v1.VirtualMachineInstanceStatus, o *Observed) {
	if o.Launcher.Probed || hasCondition(status, v1.VirtualMachineInstancePaused) {
		return
	}
	setCondition(status, condition{kind: v1.VirtualMachineInstanceReady, status: corev1.ConditionTrue}, o.Now)
}
