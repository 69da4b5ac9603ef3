package defaults

import (
	"context"
	"slices"

	"github.com/google/uuid"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	"kubevirt.io/api/instancetype"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/server/api/expand"
)

// VM completes a VM. Only what must not change over the VM's life is written into it; the rest is decided anew for every
// VMI, so that a VM follows the cluster's configuration.
func VM(ctx context.Context, vm *v1.VirtualMachine, create bool, cluster clusterconfig.Config, expander expand.Expander) error {
	if m := vm.Spec.Instancetype; m != nil && m.Kind == "" {
		m.Kind = instancetype.ClusterSingularResourceName
	}
	if m := vm.Spec.Preference; m != nil && m.Kind == "" {
		m.Kind = instancetype.ClusterSingularPreferenceResourceName
	}
	// The controller would add it first thing: a write saved.
	if create && !slices.Contains(vm.Finalizers, v1.VirtualMachineControllerFinalizer) {
		vm.Finalizers = append(vm.Finalizers, v1.VirtualMachineControllerFinalizer)
	}
	if vm.Spec.Template == nil {
		return nil
	}
	spec := &vm.Spec.Template.Spec
	if create {
		identity(spec)
	}
	architecture(spec, cluster)
	if err := vmMachine(ctx, vm, cluster, expander); err != nil {
		return err
	}
	if create {
		PCITopology(&vm.Spec.Template.ObjectMeta, spec.Domain.Machine)
	}
	return nil
}

// identity is what the guest's operating system knows its machine by; licences hang on it.
func identity(spec *v1.VirtualMachineInstanceSpec) {
	if spec.Domain.Firmware == nil {
		spec.Domain.Firmware = &v1.Firmware{}
	}
	f := spec.Domain.Firmware
	if f.UUID == "" {
		f.UUID = types.UID(uuid.NewString())
	}
	if f.Serial == "" {
		f.Serial = uuid.NewString()
	}
}

// vmMachine fixes the machine type, which a guest must keep. A preference may prefer one.
func vmMachine(ctx context.Context, vm *v1.VirtualMachine, cluster clusterconfig.Config, expander expand.Expander) error {
	spec := &vm.Spec.Template.Spec
	if m := spec.Domain.Machine; m != nil && m.Type != "" {
		return nil
	}
	if vm.Spec.Preference != nil {
		if !expander.Applies(vm) {
			return nil
		}
		expanded, err := expander.Expand(ctx, vm)
		if err != nil {
			// Validation says it with the field's name.
			return nil //nolint:nilerr // see above
		}
		if m := expanded.Spec.Template.Spec.Domain.Machine; m != nil && m.Type != "" {
			spec.Domain.Machine = &v1.Machine{Type: m.Type}
			return nil
		}
	}
	machineType(spec, cluster)
	return nil
}
