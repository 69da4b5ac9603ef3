package instancetype

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	v1 "kubevirt.io/api/core/v1"
	api "kubevirt.io/api/instancetype"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// InferError is why a reference could not be inferred from a volume.
type InferError struct {
	// Field is the reference's: instancetype or preference.
	Field, Volume string
	Reason        string
}

func (e *InferError) Error() string {
	return fmt.Sprintf("cannot infer the %s from volume %q: %s", e.Field, e.Volume, e.Reason)
}

// Infer settles the machine's references that name a volume: the labels of the claim, data volume or data source behind it say which
// instance type or preference goes with what is on it (contract: instancetype.kubevirt.io/default-*).
func Infer(ctx context.Context, reader client.Reader, vm *v1.VirtualMachine) error {
	i := inferrer{ctx: ctx, reader: reader, vm: vm}
	if m := vm.Spec.Instancetype; m != nil && m.InferFromVolume != "" {
		name, kind, err := i.infer("instancetype", m.InferFromVolume, api.DefaultInstancetypeLabel, api.DefaultInstancetypeKindLabel)
		switch {
		case err != nil && !ignored(m.InferFromVolumeFailurePolicy, err):
			return err
		case err != nil:
			vm.Spec.Instancetype = nil
		default:
			if p := m.InferFromVolumeFailurePolicy; p != nil && *p == v1.IgnoreInferFromVolumeFailure && vm.Spec.Template != nil {
				// The memory was for the case that nothing can be inferred (contract).
				vm.Spec.Template.Spec.Domain.Memory = nil
			}
			vm.Spec.Instancetype = &v1.InstancetypeMatcher{Name: name, Kind: cmp.Or(kind, api.ClusterSingularResourceName), RevisionName: m.RevisionName}
		}
	}
	if m := vm.Spec.Preference; m != nil && m.InferFromVolume != "" {
		name, kind, err := i.infer("preference", m.InferFromVolume, api.DefaultPreferenceLabel, api.DefaultPreferenceKindLabel)
		switch {
		case err != nil && !ignored(m.InferFromVolumeFailurePolicy, err):
			return err
		case err != nil:
			vm.Spec.Preference = nil
		default:
			vm.Spec.Preference = &v1.PreferenceMatcher{Name: name, Kind: cmp.Or(kind, api.ClusterSingularPreferenceResourceName), RevisionName: m.RevisionName}
		}
	}
	return nil
}

// ignored tells whether a volume without the labels leaves the machine without a reference. That the cluster cannot be asked is never
// ignored.
func ignored(policy *v1.InferFromVolumeFailurePolicy, err error) bool {
	var about *InferError
	return errors.As(err, &about) && policy != nil && *policy == v1.IgnoreInferFromVolumeFailure
}

type inferrer struct {
	ctx    context.Context //nolint:containedctx // lives for one call
	reader client.Reader
	vm     *v1.VirtualMachine
}

// The kinds whose labels are looked at.
var (
	claims      = schema.GroupVersionKind{Version: "v1", Kind: "PersistentVolumeClaim"}
	dataVolumes = schema.GroupVersionKind{Group: "cdi.kubevirt.io", Version: "v1beta1", Kind: "DataVolume"}
	dataSources = schema.GroupVersionKind{Group: "cdi.kubevirt.io", Version: "v1beta1", Kind: "DataSource"}
)

// deepest bounds how far sources are followed: a data source may name another one.
const deepest = 4

func (i inferrer) infer(what, volume, nameLabel, kindLabel string) (name, kind string, err error) {
	fail := func(reason string) (string, string, error) { return "", "", &InferError{what, volume, reason} }
	if i.vm.Spec.Template == nil {
		return fail("the machine has no template")
	}
	for _, v := range i.vm.Spec.Template.Spec.Volumes {
		if v.Name != volume {
			continue
		}
		var labels map[string]string
		switch {
		case v.PersistentVolumeClaim != nil:
			labels, err = i.of(claims, i.vm.Namespace, v.PersistentVolumeClaim.ClaimName, nameLabel, deepest)
		case v.DataVolume != nil:
			labels, err = i.ofDataVolume(v.DataVolume.Name, nameLabel)
		default:
			return fail("only claims and data volumes say what goes with them")
		}
		if err != nil {
			return "", "", err
		}
		if labels[nameLabel] == "" {
			return fail(fmt.Sprintf("neither it nor its source has the label %s", nameLabel))
		}
		return labels[nameLabel], labels[kindLabel], nil
	}
	return fail("there is no such volume in spec.template.spec.volumes")
}

// ofDataVolume looks at the machine's own template of the data volume first, which is there before the data volume.
func (i inferrer) ofDataVolume(name, wanted string) (map[string]string, error) {
	for _, t := range i.vm.Spec.DataVolumeTemplates {
		if t.Name != name {
			continue
		}
		if t.Labels[wanted] != "" {
			return t.Labels, nil
		}
		if s := t.Spec.Source; s != nil && s.PVC != nil {
			return i.of(claims, cmp.Or(s.PVC.Namespace, i.vm.Namespace), s.PVC.Name, wanted, deepest)
		}
		if ref := t.Spec.SourceRef; ref != nil && ref.Kind == dataSources.Kind {
			namespace := i.vm.Namespace
			if ref.Namespace != nil {
				namespace = *ref.Namespace
			}
			return i.of(dataSources, namespace, ref.Name, wanted, deepest)
		}
		return nil, nil
	}
	labels, err := i.of(dataVolumes, i.vm.Namespace, name, wanted, deepest)
	if err != nil || labels[wanted] != "" {
		return labels, err
	}
	return i.of(claims, i.vm.Namespace, name, wanted, deepest)
}

// of gives the labels of an object, or of what it was made from if it does not have the wanted one. What does not exist has none.
func (i inferrer) of(kind schema.GroupVersionKind, namespace, name, wanted string, depth int) (map[string]string, error) {
	obj := &unstructured.Unstructured{}
	obj.SetGroupVersionKind(kind)
	err := i.reader.Get(i.ctx, client.ObjectKey{Namespace: namespace, Name: name}, obj)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s %s/%s: %w", kind.Kind, namespace, name, err)
	}
	if obj.GetLabels()[wanted] != "" || depth == 0 {
		return obj.GetLabels(), nil
	}
	for _, next := range []struct {
		kind schema.GroupVersionKind
		path []string
	}{
		{claims, []string{"spec", "source", "pvc"}}, {dataSources, []string{"spec", "source", "dataSource"}}, {dataSources, []string{"spec", "sourceRef"}},
	} {
		source, found, err := unstructured.NestedMap(obj.Object, next.path...)
		if err != nil || !found {
			continue
		}
		to, _ := source["name"].(string)
		in, _ := source["namespace"].(string)
		return i.of(next.kind, cmp.Or(in, namespace), to, wanted, depth-1)
	}
	return nil, nil
}
