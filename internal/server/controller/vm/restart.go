package vm

import (
	"context"
	"maps"
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
		r.remember(p.key, func(m *memory) { m.lastStart, m.lastStartName, m.kept = nil, "", "" })
		return nil
	}
	generation, known := startGeneration(p.vmi)
	if !known {
		return nil // adopted: nobody knows what it was made from
	}
	if generation == p.vm.Generation {
		s.ObservedGeneration = generation
		removeVMCondition(p.vm, v1.VirtualMachineRestartRequired)
		return nil
	}
	if err := r.keepRevision(ctx, p, generation); err != nil {
		return err
	}
	last, err := r.lastStart(ctx, p, revisionName(p.vm.UID, generation))
	if err != nil {
		return err
	}
	same, err := r.sameMachine(ctx, p, last)
	switch {
	case err != nil:
		return err
	case last == nil:
	case same:
		s.ObservedGeneration = generation
		if sameLabels(last, &p.vm.Spec) {
			s.ObservedGeneration = p.vm.Generation
		}
		removeVMCondition(p.vm, v1.VirtualMachineRestartRequired)
	default:
		s.ObservedGeneration = generation
		setVMCondition(p.vm, v1.VirtualMachineCondition{
			Type: v1.VirtualMachineRestartRequired, Status: corev1.ConditionTrue, Reason: "RestartRequired", Message: restartMessage,
		}, r.Now())
	}
	return nil
}

// startGeneration is the VM's generation that the VMI was made from, if that is known.
func startGeneration(vmi *v1.VirtualMachineInstance) (int64, bool) {
	generation, err := strconv.ParseInt(vmi.Annotations[v1.VirtualMachineGenerationAnnotation], 10, 64)
	return generation, err == nil
}

// sameLabels tells whether a VMI made now would have the same labels and annotations. No machine is started again for them, but the
// VMI that runs does not have them: it has not observed this generation.
func sameLabels(last, now *v1.VirtualMachineSpec) bool {
	if last.Template == nil || now.Template == nil {
		return last.Template == now.Template
	}
	before, after := maps.Clone(last.Template.ObjectMeta.Annotations), maps.Clone(now.Template.ObjectMeta.Annotations)
	for _, key := range topologyAnnotations() { // these come from the VMI
		delete(before, key)
		delete(after, key)
	}
	return maps.Equal(last.Template.ObjectMeta.Labels, now.Template.ObjectMeta.Labels) && maps.Equal(before, after)
}

// sameMachine tells whether the VM describes the machine that its VMI is, or will be without a restart.
func (r *Reconciler) sameMachine(ctx context.Context, p *pass, last *v1.VirtualMachineSpec) (bool, error) {
	if last == nil || last.Template == nil || p.vm.Spec.Template == nil {
		return last == nil || last.Template == p.vm.Spec.Template, nil
	}
	before, err := r.expand(ctx, p.vm, last)
	if err != nil {
		return false, err
	}
	now, err := r.expand(ctx, p.vm, &p.vm.Spec)
	if err != nil {
		return false, err
	}
	if before == nil || now == nil {
		// An instance type has gone: only its name is left to compare.
		return sameMatcher(last.Instancetype, p.vm.Spec.Instancetype) && samePreference(last.Preference, p.vm.Spec.Preference), nil
	}
	return !needsRestart(before, now, p.vmi, r.Config.Get()), nil
}
