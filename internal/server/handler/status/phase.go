package status

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/libvirt/wire"
)

// Phase is the phase that follows from the domain's state.
func Phase(vmi *v1.VirtualMachineInstance, present v1.VirtualMachineInstancePhase, state wire.State) v1.VirtualMachineInstancePhase {
	switch state.State {
	case wire.StateRunning, wire.StateShutdown:
		return v1.Running
	case wire.StatePaused:
		if state.Reason == wire.ReasonPostCopyFailed {
			return v1.Failed
		}
		return v1.Running
	case wire.StateCrashed:
		return v1.Failed
	case wire.StateShutoff:
		return ended(vmi, present, state.Reason)
	}
	return present
}

func ended(vmi *v1.VirtualMachineInstance, present v1.VirtualMachineInstancePhase, reason wire.Reason) v1.VirtualMachineInstancePhase {
	switch reason {
	case wire.ReasonCrashed, wire.ReasonPanicked, wire.ReasonFailed:
		return v1.Failed
	case wire.ReasonMigrated:
		return present
	case wire.ReasonDestroyed:
		// A guest that could have powered itself off and had to be forced has failed to.
		if CanShutDown(vmi) {
			return v1.Failed
		}
	}
	return v1.Succeeded
}

// CanShutDown tells whether the guest is asked to power off before it is forced to.
func CanShutDown(vmi *v1.VirtualMachineInstance) bool {
	features := vmi.Spec.Domain.Features
	acpi := features == nil || features.ACPI.Enabled == nil || *features.ACPI.Enabled
	return acpi && GraceSeconds(vmi) > 0
}

// GraceSeconds is how long the guest may take to power off.
func GraceSeconds(vmi *v1.VirtualMachineInstance) int64 {
	if g := vmi.Spec.TerminationGracePeriodSeconds; g != nil {
		return *g
	}
	return v1.DefaultGracePeriodSeconds
}

// setPhase moves forward only, and notes when.
func setPhase(status *v1.VirtualMachineInstanceStatus, phase v1.VirtualMachineInstancePhase, now time.Time) {
	if status.Phase == phase || final(status.Phase) || phase == v1.Scheduled && status.Phase == v1.Running {
		return
	}
	status.Phase = phase
	for _, t := range status.PhaseTransitionTimestamps {
		if t.Phase == phase {
			return
		}
	}
	status.PhaseTransitionTimestamps = append(status.PhaseTransitionTimestamps[:len(status.PhaseTransitionTimestamps):len(status.PhaseTransitionTimestamps)],
		v1.VirtualMachineInstancePhaseTransitionTimestamp{Phase: phase, PhaseTransitionTimestamp: metav1.NewTime(now)})
}

func final(phase v1.VirtualMachineInstancePhase) bool {
	return phase == v1.Succeeded || phase == v1.Failed
}
