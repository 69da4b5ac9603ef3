// Package expand says how the rest of virt-api asks for a VM with its instance type and preference applied.
package expand

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	v1 "kubevirt.io/api/core/v1"
)

// Expander applies instance types and preferences.
type Expander interface {
	// Expand gives a copy of the VM with what it refers to applied and the references removed. An error with details causes
	// (422) says which field of the VM stands against its instance type; a 400 that something referred to cannot be applied.
	Expand(ctx context.Context, vm *v1.VirtualMachine) (*v1.VirtualMachine, error)
	// Applies tells whether Expand can apply what the VM refers to. Where it cannot, rules about what the instance type would
	// bring are left to the VirtualMachineInstance's own admission.
	Applies(vm *v1.VirtualMachine) bool
}

// Literal is the Expander that knows no instance types: it expands only VMs that refer to none.
type Literal struct{}

// Expand gives a copy of a VM without references.
func (Literal) Expand(_ context.Context, vm *v1.VirtualMachine) (*v1.VirtualMachine, error) {
	if m := vm.Spec.Instancetype; m != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("this platform has no instance types, so %s %q cannot be applied;"+
			" set CPU and memory in spec.template.spec.domain instead", m.Kind, m.Name))
	}
	if m := vm.Spec.Preference; m != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("this platform has no preferences, so %s %q cannot be applied;"+
			" set devices and firmware in spec.template.spec.domain instead", m.Kind, m.Name))
	}
	return vm.DeepCopy(), nil
}

// Applies is true for VMs without references.
func (Literal) Applies(vm *v1.VirtualMachine) bool {
	return vm.Spec.Instancetype == nil && vm.Spec.Preference == nil
}
