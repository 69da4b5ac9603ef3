package vm

import (
	"context"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	v1 "kubevirt.io/api/core/v1"
)

const restartMessage = "a non-live-updatable field was changed in the template spec"

// checkRestart compares the VM with what its VMI was started from. A change reaches the guest only with a restart, and the
// condition says so until the restart or until the change is taken back.
func (r *Reconciler) checkRestart(ctx context.Context, p *pass) error {
	s := &p.vm.Status
	s.DesiredGeneration = p.vm.Generation
	if p.vmi == nil || p.vmi.IsFinal() {
		removeVMCondition(p.vm, v1.VirtualMachineRestartRequired)
		r.remember(p.key, func(m *memory) { m.lastStart, m.lastStartName = nil, "" })
		return nil
	}
	generation, err := strconv.ParseInt(p.vmi.Annotations[v1.VirtualMachineGenerationAnnotation], 10, 64)
	if err != nil {
		return nil // adopted: nobody knows what it was made from
	}
	if generation == p.vm.Generation {
		s.ObservedGeneration = generation
		removeVMCondition(p.vm, v1.VirtualMachineRestartRequired)
		return nil
	}
	last, err := r.lastStart(ctx, p, revisionName(p.vm.UID, generation))
	if err != nil {
		return err
	}
	switch {
	case last == nil:
	case sameMachine(last, &p.vm.Spec):
		s.ObservedGeneration = p.vm.Generation
		removeVMCondition(p.vm, v1.VirtualMachineRestartRequired)
	default:
		s.ObservedGeneration = generation
		setVMCondition(p.vm, v1.VirtualMachineCondition{
			Type: v1.VirtualMachineRestartRequired, Status: corev1.ConditionTrue, Reason: "RestartRequired", Message: restartMessage,
		}, r.Now())
	}
	return nil
}
