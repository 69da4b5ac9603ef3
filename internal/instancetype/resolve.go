package instancetype

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	api "kubevirt.io/api/instancetype"
	"kubevirt.io/api/instancetype/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Origin is the object a machine's type or preference came from, as it was then.
type Origin struct {
	// Object is what a ControllerRevision keeps.
	Object client.Object
	Kind   string
	// Revision is set when the object came out of one. Outdated tells that it does not say it holds the latest version.
	Revision string
	Outdated bool
}

// Resolved is what a machine refers to, and where it was found.
type Resolved struct {
	Types
	Instancetype, Preference *Origin
}

// Resolve reads what a machine refers to: from the revision it was first seen with, else from the live objects. Errors are
// NotFound errors of the API when something does not exist.
func Resolve(ctx context.Context, reader client.Reader, vm *v1.VirtualMachine) (Resolved, error) {
	var out Resolved
	if m := vm.Spec.Instancetype; m != nil && m.Name != "" {
		origin, err := find(ctx, reader, vm.Namespace, reference{m.Kind, m.Name, revisionOf(m.RevisionName, vm.Status.InstancetypeRef, m.Name)}, instancetypeKinds)
		if err != nil {
			return out, fmt.Errorf("find the instance type of VM %s/%s: %w", vm.Namespace, vm.Name, err)
		}
		out.Instancetype = origin
		out.Types.Instancetype = instancetypeSpec(origin.Object)
	}
	if m := vm.Spec.Preference; m != nil && m.Name != "" {
		origin, err := find(ctx, reader, vm.Namespace, reference{m.Kind, m.Name, revisionOf(m.RevisionName, vm.Status.PreferenceRef, m.Name)}, preferenceKinds)
		if err != nil {
			return out, fmt.Errorf("find the preference of VM %s/%s: %w", vm.Namespace, vm.Name, err)
		}
		out.Preference = origin
		out.Types.Preference = preferenceSpec(origin.Object)
	}
	return out, nil
}

type reference struct{ kind, name, revision string }

// revisionOf prefers the revision the user names over the one the controller keeps.
func revisionOf(named string, ref *v1.InstancetypeStatusRef, name string) string {
	if named != "" || ref == nil || ref.Name != name || ref.ControllerRevisionRef == nil {
		return named
	}
	return ref.ControllerRevisionRef.Name
}

// kind is one of the kinds a reference may name. Users write the singular and the plural name as well.
type kind struct {
	name, singular, plural string
	namespaced             bool
	object                 func() client.Object
}

var instancetypeKinds = []kind{
	{"VirtualMachineClusterInstancetype", api.ClusterSingularResourceName, api.ClusterPluralResourceName, false, func() client.Object { return &v1beta1.VirtualMachineClusterInstancetype{} }},
	{"VirtualMachineInstancetype", api.SingularResourceName, api.PluralResourceName, true, func() client.Object { return &v1beta1.VirtualMachineInstancetype{} }},
}

var preferenceKinds = []kind{
	{"VirtualMachineClusterPreference", api.ClusterSingularPreferenceResourceName, api.ClusterPluralPreferenceResourceName, false, func() client.Object { return &v1beta1.VirtualMachineClusterPreference{} }},
	{"VirtualMachinePreference", api.SingularPreferenceResourceName, api.PluralPreferenceResourceName, true, func() client.Object { return &v1beta1.VirtualMachinePreference{} }},
}

func find(ctx context.Context, reader client.Reader, namespace string, ref reference, kinds []kind) (*Origin, error) {
	k, err := pick(ref.kind, kinds)
	if err != nil {
		return nil, err
	}
	if ref.revision != "" {
		return fromRevision(ctx, reader, types.NamespacedName{Namespace: namespace, Name: ref.revision}, k)
	}
	key := types.NamespacedName{Name: ref.name}
	if k.namespaced {
		key.Namespace = namespace
	}
	obj := k.object()
	if err := reader.Get(ctx, key, obj); err != nil {
		return nil, err
	}
	return &Origin{Object: obj, Kind: k.name}, nil
}

func pick(name string, kinds []kind) (kind, error) {
	name = strings.ToLower(name)
	for _, k := range kinds {
		if name == strings.ToLower(k.name) || name == k.singular || name == k.plural {
			return k, nil
		}
	}
	if name == "" {
		return kinds[0], nil
	}
	return kind{}, fmt.Errorf("kind %q is not known here: use %s or %s", name, kinds[0].name, kinds[1].name)
}

func fromRevision(ctx context.Context, reader client.Reader, key types.NamespacedName, k kind) (*Origin, error) {
	revision := &appsv1.ControllerRevision{}
	if err := reader.Get(ctx, key, revision); err != nil {
		return nil, err
	}
	obj := k.object()
	if err := json.Unmarshal(revision.Data.Raw, obj); err != nil {
		return nil, fmt.Errorf("revision %s holds no %s: %w", key.Name, k.name, err)
	}
	outdated := revision.Labels[api.ControllerRevisionObjectVersionLabel] != api.LatestVersion
	return &Origin{Object: obj, Kind: k.name, Revision: key.Name, Outdated: outdated}, nil
}

// SameSpec tells whether a revision holds what its origin specifies.
func SameSpec(origin *Origin, revision *appsv1.ControllerRevision) (bool, error) {
	kinds := append(slices.Clone(instancetypeKinds), preferenceKinds...)
	k, err := pick(origin.Kind, kinds)
	if err != nil {
		return false, err
	}
	kept := k.object()
	if err := json.Unmarshal(revision.Data.Raw, kept); err != nil {
		return false, nil // not one of ours
	}
	return equality.Semantic.DeepEqual(instancetypeSpec(origin.Object), instancetypeSpec(kept)) &&
		equality.Semantic.DeepEqual(preferenceSpec(origin.Object), preferenceSpec(kept)), nil
}

func instancetypeSpec(obj client.Object) *v1beta1.VirtualMachineInstancetypeSpec {
	switch o := obj.(type) {
	case *v1beta1.VirtualMachineClusterInstancetype:
		return &o.Spec
	case *v1beta1.VirtualMachineInstancetype:
		return &o.Spec
	}
	return nil
}

func preferenceSpec(obj client.Object) *v1beta1.VirtualMachinePreferenceSpec {
	switch o := obj.(type) {
	case *v1beta1.VirtualMachineClusterPreference:
		return &o.Spec
	case *v1beta1.VirtualMachinePreference:
		return &o.Spec
	}
	return nil
}

// RevisionName is the name of the copy of an object that a machine keeps.
func RevisionName(vm *v1.VirtualMachine, origin *Origin) string {
	return fmt.Sprintf("%s-%s-%s-%s-%d", vm.Name, origin.Object.GetName(), api.LatestVersion, origin.Object.GetUID(), origin.Object.GetGeneration())
}

// Revision is the copy that a machine keeps of what it was first seen with, so that a later change of the object does not
// change the machine.
func Revision(vm *v1.VirtualMachine, origin *Origin) (*appsv1.ControllerRevision, error) {
	copied, ok := origin.Object.DeepCopyObject().(client.Object)
	if !ok {
		return nil, fmt.Errorf("%s %s cannot be copied", origin.Kind, origin.Object.GetName())
	}
	copied.GetObjectKind().SetGroupVersionKind(v1beta1.SchemeGroupVersion.WithKind(origin.Kind))
	copied.SetManagedFields(nil)
	raw, err := json.Marshal(copied)
	if err != nil {
		return nil, fmt.Errorf("encode %s %s: %w", origin.Kind, copied.GetName(), err)
	}
	return &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Name: RevisionName(vm, origin), Namespace: vm.Namespace,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(vm, v1.VirtualMachineGroupVersionKind)},
			Labels: map[string]string{
				api.ControllerRevisionObjectKindLabel:       origin.Kind,
				api.ControllerRevisionObjectNameLabel:       copied.GetName(),
				api.ControllerRevisionObjectUIDLabel:        string(copied.GetUID()),
				api.ControllerRevisionObjectVersionLabel:    api.LatestVersion,
				api.ControllerRevisionObjectGenerationLabel: fmt.Sprint(copied.GetGeneration()),
			},
		},
		Data: runtime.RawExtension{Raw: raw},
	}, nil
}
