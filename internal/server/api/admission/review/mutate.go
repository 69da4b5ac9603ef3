package review

import (
	"context"
	"errors"
	"slices"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/instancetype"
	"virtctl/internal/server/api/admission/defaults"
)

func (s *Server) mutateVM(ctx context.Context, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	vm := &v1.VirtualMachine{}
	if refused := decode(r, vm, nil); refused != nil {
		return refused
	}
	if vm.DeletionTimestamp != nil {
		return nil
	}
	if r.Operation == admissionv1.Create {
		if causes := zeros(r.Object.Raw, "spec.template.spec"); len(causes) > 0 {
			return denied(causes)
		}
	}
	before := vm.DeepCopy()
	if vm.Namespace == "" {
		vm.Namespace, before.Namespace = r.Namespace, r.Namespace
	}
	if refused := s.infer(ctx, vm); refused != nil {
		return refused
	}
	if err := defaults.VM(ctx, vm, r.Operation == admissionv1.Create, s.Config.Get(), s.Expander); err != nil {
		return failed(err)
	}
	return patched(changes(&before.ObjectMeta, &vm.ObjectMeta, before.Spec, vm.Spec))
}

// infer settles references to instance types and preferences that go with a volume's contents.
func (s *Server) infer(ctx context.Context, vm *v1.VirtualMachine) *admissionv1.AdmissionResponse {
	err := instancetype.Infer(ctx, s.Client, vm)
	var missing *instancetype.InferError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &missing):
		return denied([]metav1.StatusCause{{
			Type: metav1.CauseTypeFieldValueNotFound, Field: "spec." + missing.Field + ".inferFromVolume", Message: missing.Error(),
		}})
	}
	return failed(err)
}

// changes replaces metadata and spec as a whole where they differ.
func changes(before, after *metav1.ObjectMeta, oldSpec, newSpec any) []operation {
	var out []operation
	if !equality.Semantic.DeepEqual(oldSpec, newSpec) {
		out = append(out, operation{"replace", "/spec", newSpec})
	}
	if !equality.Semantic.DeepEqual(before, after) {
		out = append(out, operation{"replace", "/metadata", after})
	}
	return out
}

func (s *Server) mutateVMI(ctx context.Context, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	vmi, old := &v1.VirtualMachineInstance{}, &v1.VirtualMachineInstance{}
	if refused := decode(r, vmi, old); refused != nil {
		return refused
	}
	if r.Operation == admissionv1.Update {
		return s.keepStatus(r, vmi, old)
	}
	if vmi.DeletionTimestamp != nil {
		return nil
	}
	if causes := zeros(r.Object.Raw, "spec"); len(causes) > 0 {
		return denied(causes)
	}
	before := vmi.DeepCopy()
	if s.account(r) == "" {
		vmi.Status = v1.VirtualMachineInstanceStatus{}
	}
	warnings, refused := s.preset(ctx, r.Namespace, vmi)
	if refused != nil {
		return refused
	}
	if err := defaults.VMI(vmi, s.Config.Get(), metav1.Now()); err != nil {
		return failed(err)
	}
	answer := patched(append(changes(&before.ObjectMeta, &vmi.ObjectMeta, before.Spec, vmi.Spec), operation{"add", "/status", vmi.Status}))
	answer.Warnings = warnings
	return answer
}

// keepStatus takes back what a user did to a status: VMIs have no status subresource, so whoever may change a VMI reaches it.
func (s *Server) keepStatus(r *admissionv1.AdmissionRequest, vmi, old *v1.VirtualMachineInstance) *admissionv1.AdmissionResponse {
	if s.account(r) != "" || equality.Semantic.DeepEqual(vmi.Status, old.Status) {
		return nil
	}
	return patched([]operation{{"add", "/status", old.Status}})
}

func (s *Server) mutateMigration(_ context.Context, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	migration := &v1.VirtualMachineInstanceMigration{}
	if refused := decode(r, migration, nil); refused != nil {
		return refused
	}
	before := migration.DeepCopy()
	if migration.Labels == nil {
		migration.Labels = map[string]string{}
	}
	migration.Labels[v1.MigrationSelectorLabel] = migration.Spec.VMIName
	if !slices.Contains(migration.Finalizers, v1.VirtualMachineInstanceMigrationFinalizer) {
		migration.Finalizers = append(migration.Finalizers, v1.VirtualMachineInstanceMigrationFinalizer)
	}
	return patched(changes(&before.ObjectMeta, &migration.ObjectMeta, before.Spec, migration.Spec))
}
