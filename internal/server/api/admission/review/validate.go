package review

import (
	"context"
	"errors"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/server/api/admission/defaults"
	"virtctl/internal/server/api/admission/rules"
	"virtctl/internal/server/api/expand"
)

func (s *Server) validateVM(ctx context.Context, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	vm, old := &v1.VirtualMachine{}, &v1.VirtualMachine{}
	if refused := decode(r, vm, old); refused != nil {
		return refused
	}
	// Whatever is wrong with a VM, it must be possible to let go of it.
	if vm.DeletionTimestamp != nil {
		return nil
	}
	if vm.Namespace == "" {
		vm.Namespace = r.Namespace
	}
	in := rules.VMInput{Cluster: s.Config.Get(), VM: vm, Platform: s.account(r) != ""}
	if r.Operation == admissionv1.Update {
		in.Old = old
	}
	complete := false
	if vm.Spec.Template != nil && rules.Changed(in.Old, vm) {
		effective, whole, refused := s.effective(ctx, vm)
		if refused != nil {
			return refused
		}
		in.Effective, complete = effective, whole
	}
	causes := rules.VM(in)
	if len(causes) == 0 && in.Old != nil {
		live, err := s.liveUpdate(ctx, old, vm)
		if err != nil {
			return failed(err)
		}
		causes = live
	}
	var machine rules.Stays
	if in.Effective != nil {
		machine = s.stays(ctx, r.Namespace, rules.Stays{
			At: field.NewPath("spec", "template", "spec"), Spec: in.Effective, Annotations: vm.Spec.Template.ObjectMeta.Annotations,
		})
		if len(causes) == 0 {
			causes = machine.Refusals(template(in.Old))
		}
	}
	if len(causes) > 0 {
		answer := denied(causes)
		answer.Warnings = vmWarnings(vm)
		return answer
	}
	warnings := vmWarnings(vm)
	if complete {
		warnings = append(warnings, rules.Lacking(field.NewPath("spec", "template", "spec"), in.Effective)...)
	}
	if in.Effective != nil {
		warnings = append(warnings, machine.Warnings()...)
	}
	return &admissionv1.AdmissionResponse{Allowed: true, Warnings: warnings}
}

// template is what a VM's instances are made of; nil without one.
func template(vm *v1.VirtualMachine) *v1.VirtualMachineInstanceSpec {
	if vm == nil || vm.Spec.Template == nil {
		return nil
	}
	return &vm.Spec.Template.Spec
}

// stays lets a machine's claims be read, each once. One that cannot be read is none to speak of.
func (s *Server) stays(ctx context.Context, namespace string, machine rules.Stays) rules.Stays {
	read := map[string]*corev1.PersistentVolumeClaim{}
	machine.Claim = func(name string) *corev1.PersistentVolumeClaim {
		claim, known := read[name]
		if !known {
			claim = &corev1.PersistentVolumeClaim{}
			if s.get(ctx, namespace, name, claim) != nil {
				claim = nil
			}
			read[name] = claim
		}
		return claim
	}
	return machine
}

// effective gives what the VM's instance would be, whole unless its instance type is not there to be applied.
func (s *Server) effective(ctx context.Context, vm *v1.VirtualMachine) (*v1.VirtualMachineInstanceSpec, bool, *admissionv1.AdmissionResponse) {
	expanded, whole := vm.DeepCopy(), s.Expander.Applies(vm)
	if whole {
		var err error
		switch expanded, err = s.Expander.Expand(ctx, vm); {
		case expand.IsMissing(err):
			// A VM may be made before what it refers to (contract): it is started when that is there.
			expanded, whole = vm.DeepCopy(), false
		case err != nil:
			return nil, false, refusal(err)
		}
	}
	spec := &expanded.Spec.Template.Spec
	if err := defaults.Spec(spec, s.Config.Get()); err != nil {
		return nil, false, failed(err)
	}
	return spec, whole, nil
}

// refusal keeps the causes of an error that names fields.
func refusal(err error) *admissionv1.AdmissionResponse {
	var known apierrors.APIStatus
	if errors.As(err, &known) {
		if d := known.Status().Details; d != nil && len(d.Causes) > 0 {
			return denied(d.Causes)
		}
	}
	return failed(err)
}

// liveUpdate refuses a second change of a running guest's CPUs or memory while the first is still on its way.
func (s *Server) liveUpdate(ctx context.Context, before, after *v1.VirtualMachine) ([]metav1.StatusCause, error) {
	if before.Spec.Template == nil || after.Spec.Template == nil || s.Config.Get().RolloutStrategy != v1.VMRolloutStrategyLiveUpdate {
		return nil, nil
	}
	old, now := &before.Spec.Template.Spec.Domain, &after.Spec.Template.Spec.Domain
	cpu := !equality.Semantic.DeepEqual(old.CPU, now.CPU)
	memory := !equality.Semantic.DeepEqual(old.Memory, now.Memory)
	if !cpu && !memory {
		return nil, nil
	}
	vmi := &v1.VirtualMachineInstance{}
	if err := s.get(ctx, after.Namespace, after.Name, vmi); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("look for the VM's instance: %w", err)
	}
	underway := func(changed bool, condition v1.VirtualMachineInstanceConditionType, field, what string) []metav1.StatusCause {
		if !changed || !hasCondition(vmi, condition) {
			return nil
		}
		return []metav1.StatusCause{{
			Type: metav1.CauseTypeFieldValueNotSupported, Field: field,
			Message: fmt.Sprintf("%s: cannot update while another %s change is in progress", field, what),
		}}
	}
	return append(underway(cpu, v1.VirtualMachineInstanceVCPUChange, "spec.template.spec.domain.cpu.sockets", "CPU"),
		underway(memory, v1.VirtualMachineInstanceMemoryChange, "spec.template.spec.domain.memory.guest", "memory")...), nil
}

func hasCondition(vmi *v1.VirtualMachineInstance, kind v1.VirtualMachineInstanceConditionType) bool {
	for _, c := range vmi.Status.Conditions {
		if c.Type == kind {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func (s *Server) validateVMICreate(ctx context.Context, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	vmi := &v1.VirtualMachineInstance{}
	if refused := decode(r, vmi, nil); refused != nil {
		return refused
	}
	if vmi.Namespace == "" {
		vmi.Namespace = r.Namespace
	}
	ours := s.account(r) != ""
	if causes := rules.VMI(vmi, s.Config.Get(), ours); len(causes) > 0 {
		return denied(causes)
	}
	if ours {
		return nil // nobody reads it; who made the VM has been warned
	}
	return &admissionv1.AdmissionResponse{
		Allowed:  true,
		Warnings: s.stays(ctx, vmi.Namespace, rules.Stays{At: field.NewPath("spec"), Spec: &vmi.Spec, Annotations: vmi.Annotations}).Warnings(),
	}
}

func (s *Server) validateReplicaSet(_ context.Context, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	rs, old := &v1.VirtualMachineInstanceReplicaSet{}, &v1.VirtualMachineInstanceReplicaSet{}
	if refused := decode(r, rs, old); refused != nil {
		return refused
	}
	if rs.DeletionTimestamp != nil || (r.Operation == admissionv1.Update && equality.Semantic.DeepEqual(rs.Spec, old.Spec)) {
		return nil
	}
	var effective *v1.VirtualMachineInstanceSpec
	if rs.Spec.Template != nil {
		effective = rs.Spec.Template.Spec.DeepCopy()
		if err := defaults.Spec(effective, s.Config.Get()); err != nil {
			return failed(err)
		}
	}
	if causes := rules.ReplicaSet(rs, effective, s.Config.Get()); len(causes) > 0 {
		return denied(causes)
	}
	return nil
}

func (s *Server) validatePreset(_ context.Context, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	preset := &v1.VirtualMachineInstancePreset{}
	if refused := decode(r, preset, nil); refused != nil {
		return refused
	}
	// Whatever is wrong with it, it must be possible to let go of it.
	if preset.DeletionTimestamp != nil {
		return nil
	}
	if causes := rules.Preset(preset, s.Config.Get()); len(causes) > 0 {
		return denied(causes)
	}
	return nil
}

func (s *Server) validateStatus(_ context.Context, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	switch r.Resource.Resource {
	case "virtualmachines":
		vm := &v1.VirtualMachine{}
		if refused := decode(r, vm, nil); refused != nil {
			return refused
		}
		if causes := rules.VMStatus(vm, s.Config.Get()); len(causes) > 0 {
			return denied(causes)
		}
	case "virtualmachineinstancereplicasets":
		return decode(r, &v1.VirtualMachineInstanceReplicaSet{}, nil)
	case "virtualmachineinstancemigrations":
		return decode(r, &v1.VirtualMachineInstanceMigration{}, nil)
	}
	return nil
}
