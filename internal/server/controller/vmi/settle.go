package vmi

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/server/controller/condition"
	"virtctl/internal/server/controller/launcherpod"
)

// What passes within these times is not worth a write of its own. API times have whole seconds, so that up to one of them is
// lost.
const (
	// startTime is how long the status may keep quiet about a pod that comes up as it should: virt-handler reports Running
	// sooner, and one write after that tells the rest. A thousand VMs started at once are a thousand writes less.
	startTime = 4 * time.Second
	// stopTime is how long a running guest has to end before its pod is told to: virt-handler asks it to power off as soon as
	// the VMI is deleted, the launcher then ends by itself, and the pod needs one delete instead of two.
	stopTime = 3 * time.Second
)

// settling tells how long the status may wait for virt-handler's report.
func (r *Reconciler) settling(p *pass) time.Duration {
	if !p.before.IsUnprocessed() || !p.vmi.IsScheduling() || p.pod == nil || p.vmi.DeletionTimestamp != nil {
		return 0
	}
	switch {
	case !slices.Equal(p.before.Finalizers, p.vmi.Finalizers),
		usesClaims(p.vmi), // virt-handler reads in the status what they are
		condition.Reason(p.before, v1.VirtualMachineInstanceSynchronized) != "",
		condition.Reason(p.vmi, v1.VirtualMachineInstanceSynchronized) != "",
		condition.Reason(p.vmi, condition.PodScheduled) != "":
		return 0
	}
	return startTime - r.Now().Sub(p.pod.CreationTimestamp.Time)
}

func usesClaims(vmi *v1.VirtualMachineInstance) bool {
	return slices.ContainsFunc(vmi.Spec.Volumes, func(v v1.Volume) bool { return launcherpod.ClaimName(&v) != "" })
}

// stopping tells how long the pod of a deleted VMI is left to virt-handler.
func (r *Reconciler) stopping(vmi *v1.VirtualMachineInstance) time.Duration {
	if !vmi.IsRunning() && !vmi.IsFinal() {
		return 0 // nobody else would end the launcher
	}
	return stopTime - r.Now().Sub(vmi.DeletionTimestamp.Time)
}

// noteScheduling adds when the pod was made to the phases' times, where the phase itself was not worth a write.
func noteScheduling(vmi *v1.VirtualMachineInstance, at metav1.Time) {
	times := vmi.Status.PhaseTransitionTimestamps
	index := 0
	for i, t := range times {
		switch t.Phase {
		case v1.Scheduling:
			return
		case v1.VmPhaseUnset, v1.Pending:
			index = i + 1
		}
	}
	vmi.Status.PhaseTransitionTimestamps = slices.Insert(slices.Clone(times), index,
		v1.VirtualMachineInstancePhaseTransitionTimestamp{Phase: v1.Scheduling, PhaseTransitionTimestamp: at})
}
