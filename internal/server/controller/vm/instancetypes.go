package vm

import (
	"context"
	"errors"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/instancetype"
)

// Reasons of the condition Failure when what the VM refers to is not there (contract).
const (
	reasonNoInstancetype = "FailedFindInstancetype"
	reasonNoPreference   = "FailedFindPreference"
)

// keepTypes keeps copies of the instance type and preference that the VM refers to, when it is first seen with them: a later
// change of theirs does not change the VM. Under the cluster's policies expand and expandAll they are written into the VM instead.
func (r *Reconciler) keepTypes(ctx context.Context, p *pass) error {
	vm := p.vm
	if vm.Spec.Instancetype == nil && vm.Spec.Preference == nil {
		vm.Status.InstancetypeRef, vm.Status.PreferenceRef = nil, nil
		return nil
	}
	policy := r.Config.Get().InstancetypePolicy
	if r.recall(p.key).types == string(policy)+"/"+typesKey(vm) {
		return nil
	}
	types, err := instancetype.Resolve(ctx, r.Live, vm)
	switch {
	case err != nil && vm.Spec.Instancetype != nil && types.Instancetype == nil:
		return r.typesFailed(p, reasonNoInstancetype, err)
	case err != nil:
		return r.typesFailed(p, reasonNoPreference, err)
	}
	fresh := vm.Status.InstancetypeRef == nil && vm.Status.PreferenceRef == nil
	if policy == v1.ExpandAll || policy == v1.Expand && fresh {
		return r.writeTypes(ctx, p, types)
	}
	it, err1 := r.keepType(ctx, p, types.Instancetype, vm.Status.InstancetypeRef)
	pref, err2 := r.keepType(ctx, p, types.Preference, vm.Status.PreferenceRef)
	if err := errors.Join(err1, err2); err != nil {
		return r.typesFailed(p, reasonCreateFailed, err)
	}
	vm.Status.InstancetypeRef, vm.Status.PreferenceRef = it, pref
	r.remember(p.key, func(m *memory) { m.types = string(policy) + "/" + typesKey(vm) })
	return nil
}

// typesKey names what the VM refers to and the copies of it.
func typesKey(vm *v1.VirtualMachine) string {
	var parts []string
	if m := vm.Spec.Instancetype; m != nil {
		parts = append(parts, "instancetype", m.Kind, m.Name, m.RevisionName, copyOf(vm.Status.InstancetypeRef))
	}
	if m := vm.Spec.Preference; m != nil {
		parts = append(parts, "preference", m.Kind, m.Name, m.RevisionName, copyOf(vm.Status.PreferenceRef))
	}
	return strings.Join(parts, "/")
}

func copyOf(ref *v1.InstancetypeStatusRef) string {
	if ref == nil || ref.ControllerRevisionRef == nil {
		return ""
	}
	return ref.ControllerRevisionRef.Name
}

// typesFailed keeps the VM from being started without what it refers to.
func (r *Reconciler) typesFailed(p *pass, reason string, err error) error {
	if p.do == begin || p.do == flip {
		p.do = nothing
	}
	r.fail(p, reason, err)
	return nil
}

// writeTypes writes what the VM refers to into the VM itself.
func (r *Reconciler) writeTypes(ctx context.Context, p *pass, types instancetype.Resolved) error {
	changed := p.before.DeepCopy()
	if template := changed.Spec.Template; template != nil {
		if err := types.Attach(&template.Spec, r.Config.Get()); err != nil {
			return r.typesFailed(p, reasonCreateFailed, err)
		}
		types.Apply(&template.ObjectMeta, &template.Spec)
	}
	changed.Spec.Instancetype, changed.Spec.Preference = nil, nil
	if _, err := r.writer.Patch(ctx, p.before, changed); err != nil {
		return fmt.Errorf("write the instance type and preference into the VM: %w", err)
	}
	p.do, p.hold = nothing, true // the VM's next version brings us back
	return nil
}

// keepType keeps a copy of what the VM uses, unless that is a good copy already, and gives the reference to it.
func (r *Reconciler) keepType(ctx context.Context, p *pass, origin *instancetype.Origin, old *v1.InstancetypeStatusRef) (*v1.InstancetypeStatusRef, error) {
	if origin == nil {
		return nil, nil
	}
	name := origin.Revision
	if name == "" || origin.Outdated && name == copyOf(old) {
		revision, err := instancetype.Revision(p.vm, origin)
		if err != nil {
			return nil, err
		}
		if err := r.createCopy(ctx, revision, origin); err != nil {
			return nil, err
		}
		if name != "" && name != revision.Name {
			p.outdated = append(p.outdated, name)
		}
		name = revision.Name
	}
	return &v1.InstancetypeStatusRef{
		Name: origin.Object.GetName(), Kind: origin.Kind, ControllerRevisionRef: &v1.ControllerRevisionRef{Name: name},
	}, nil
}

// createCopy makes the copy. One that exists must be the same: its name holds the UID and generation of what it is a copy of.
func (r *Reconciler) createCopy(ctx context.Context, revision *appsv1.ControllerRevision, origin *instancetype.Origin) error {
	err := r.Client.Create(ctx, revision)
	if err == nil || !apierrors.IsAlreadyExists(err) {
		return wrap(err, "keep a copy of %s %s", origin.Kind, origin.Object.GetName())
	}
	found := &appsv1.ControllerRevision{}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(revision), found); err != nil {
		return wrap(err, "read the copy of %s %s", origin.Kind, origin.Object.GetName())
	}
	same, err := instancetype.SameSpec(origin, found)
	if err == nil && !same {
		err = fmt.Errorf("found existing ControllerRevision with unexpected data: %s is no copy of %s %s; delete it, or name the VM differently",
			found.Name, origin.Kind, origin.Object.GetName())
	}
	return err
}

func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}

// dropOutdated drops copies that newer ones have replaced, once the VM's status names those.
func (r *Reconciler) dropOutdated(ctx context.Context, p *pass) error {
	if p.hold {
		return nil
	}
	for _, name := range p.outdated {
		old := &appsv1.ControllerRevision{}
		err := r.Live.Get(ctx, client.ObjectKey{Namespace: p.vm.Namespace, Name: name}, old)
		if err == nil && metav1.IsControlledBy(old, p.vm) {
			err = r.Client.Delete(ctx, old)
		}
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("drop the copy %s: %w", name, err)
		}
	}
	return nil
}

// applyTypes applies the VM's instance type and preference to the VMI made from its template.
func (r *Reconciler) applyTypes(ctx context.Context, vm *v1.VirtualMachine, vmi *v1.VirtualMachineInstance) error {
	if vm.Spec.Instancetype == nil && vm.Spec.Preference == nil {
		return nil
	}
	types, err := instancetype.Resolve(ctx, r.Live, vm)
	if err != nil {
		return err
	}
	if err := types.Attach(&vmi.Spec, r.Config.Get()); err != nil {
		return err
	}
	types.Apply(&vmi.ObjectMeta, &vmi.Spec)
	annotate(vmi, types.Instancetype, v1.InstancetypeAnnotation, v1.ClusterInstancetypeAnnotation)
	annotate(vmi, types.Preference, v1.PreferenceAnnotation, v1.ClusterPreferenceAnnotation)
	return nil
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
