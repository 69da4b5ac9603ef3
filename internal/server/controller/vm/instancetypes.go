package vm

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/instancetype"
)

// applyTypes applies the VM's instance type and preference to the VMI made from its template. The first time a VM uses one, a
// copy is kept: a later change of the instance type does not change the VM.
func (r *Reconciler) applyTypes(ctx context.Context, vm *v1.VirtualMachine, vmi *v1.VirtualMachineInstance) error {
	if vm.Spec.Instancetype == nil && vm.Spec.Preference == nil {
		vm.Status.InstancetypeRef, vm.Status.PreferenceRef = nil, nil
		return nil
	}
	types, err := instancetype.Resolve(ctx, r.Live, vm)
	if err != nil {
		return err
	}
	if vm.Status.InstancetypeRef, err = r.keepType(ctx, vm, types.Instancetype); err != nil {
		return err
	}
	if vm.Status.PreferenceRef, err = r.keepType(ctx, vm, types.Preference); err != nil {
		return err
	}
	types.Apply(&vmi.ObjectMeta, &vmi.Spec)
	annotate(vmi, types.Instancetype, v1.InstancetypeAnnotation, v1.ClusterInstancetypeAnnotation)
	annotate(vmi, types.Preference, v1.PreferenceAnnotation, v1.ClusterPreferenceAnnotation)
	return nil
}

// keepType keeps a copy of what the VM uses, unless that is a copy already, and gives the reference to it.
func (r *Reconciler) keepType(ctx context.Context, vm *v1.VirtualMachine, origin *instancetype.Origin) (*v1.InstancetypeStatusRef, error) {
	if origin == nil {
		return nil, nil
	}
	name := origin.Revision
	if name == "" {
		revision, err := instancetype.Revision(vm, origin)
		if err != nil {
			return nil, err
		}
		if err := r.Client.Create(ctx, revision); err != nil && !apierrors.IsAlreadyExists(err) {
			return nil, fmt.Errorf("keep a copy of %s %s: %w", origin.Kind, origin.Object.GetName(), err)
		}
		name = revision.Name
	}
	return &v1.InstancetypeStatusRef{
		Name: origin.Object.GetName(), Kind: origin.Kind, ControllerRevisionRef: &v1.ControllerRevisionRef{Name: name},
	}, nil
}

// annotate tells on the VMI what it was made with (contract).
func annotate(vmi *v1.VirtualMachineInstance, origin *instancetype.Origin, namespaced, cluster string) {
	switch {
	case origin == nil:
	case origin.Object.GetNamespace() != "":
		vmi.Annotations[namespaced] = origin.Object.GetName()
	default:
		vmi.Annotations[cluster] = origin.Object.GetName()
	}
}
