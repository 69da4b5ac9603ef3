package install

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"virtctl/internal/apply"
	"virtctl/internal/crds"
	"virtctl/internal/install/components"
)

const (
	kubeVirtName  = "kubevirt"
	inventoryName = "virtctl-inventory"
	managedBy     = "virtctl"
)

// stage is a group of objects that the next stage needs.
type stage struct {
	objects []*unstructured.Unstructured
	// settled waits until the next stage can be applied.
	settled func(context.Context) error
}

// Objects are everything Install applies, in order; the operator makes the rest out of the KubeVirt resource.
func (i *Installer) Objects() ([]*unstructured.Unstructured, error) {
	stages, err := i.stages()
	if err != nil {
		return nil, err
	}
	var out []*unstructured.Unstructured
	for _, s := range stages {
		out = append(out, s.objects...)
	}
	return out, nil
}

func (i *Installer) stages() ([]stage, error) {
	definition, err := crds.KubeVirt()
	if err != nil {
		return nil, err
	}
	base := components.Options{
		Namespace: i.Namespace, Registry: i.Registry, Tag: i.Tag, PullPolicy: i.PullPolicy, Replicas: max(i.Replicas, 1), Verbosity: 2,
	}
	bootstrap, err := marked(components.Bootstrap(base))
	if err != nil {
		return nil, err
	}
	return i.storage([]stage{
		{objects: []*unstructured.Unstructured{mark(definition)}, settled: i.definitionsServed},
		{objects: bootstrap},
		{objects: []*unstructured.Unstructured{i.kubeVirt()}},
	})
}

func marked(objects []runtime.Object) ([]*unstructured.Unstructured, error) {
	out := make([]*unstructured.Unstructured, 0, len(objects))
	for _, obj := range objects {
		u, err := apply.Unstructured(obj)
		if err != nil {
			return nil, err
		}
		out = append(out, mark(u))
	}
	return out, nil
}

// mark tells whose object it is: the operator leaves what virtctl installed alone.
func mark(u *unstructured.Unstructured) *unstructured.Unstructured {
	labels := u.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[components.ManagedByLabel] = managedBy
	u.SetLabels(labels)
	return u
}

// kubeVirt is the resource the operator reconciles. Only what the user chose is set: everything else stays theirs to change.
func (i *Installer) kubeVirt() *unstructured.Unstructured {
	kv := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "kubevirt.io/v1", "kind": "KubeVirt",
		"metadata": map[string]any{"name": kubeVirtName, "namespace": i.Namespace},
		"spec":     map[string]any{},
	}}
	if i.Emulation == EmulationOn {
		_ = unstructured.SetNestedField(kv.Object, true, "spec", "configuration", "developerConfiguration", "useEmulation")
	}
	return mark(kv)
}

// definitionsServed waits until the API server serves the kinds the operators reconcile.
func (i *Installer) definitionsServed(ctx context.Context) error {
	served := []string{"kubevirts.kubevirt.io"}
	if i.foreignCDI == "" {
		served = append(served, "cdis.cdi.kubevirt.io")
	}
	for _, name := range served {
		err := i.until(ctx, i.dynamic.Resource(crdResource), name, func(crd *unstructured.Unstructured) (bool, error) {
			return condition(crd, "Established") == "True", nil
		})
		if err != nil {
			return fmt.Errorf("wait for %s to be served: %w", name, err)
		}
	}
	i.mapper.Reset()
	return nil
}

// recordInventory remembers what this version installed and removes what an earlier one did and this one does not.
func (i *Installer) recordInventory(ctx context.Context, stages []stage) error {
	if i.DryRun {
		return nil
	}
	var now []entry
	for _, s := range stages {
		for _, obj := range s.objects {
			now = append(now, entryOf(obj))
		}
	}
	before, err := i.inventory(ctx)
	if err != nil {
		return err
	}
	for _, e := range before {
		if slices.Contains(now, e) || e.keepsData() {
			continue
		}
		result, err := i.applier().Delete(ctx, e.object())
		if err != nil {
			return i.explain(err)
		}
		i.Report(Step{Object: apply.Describe(e.object()), Result: result})
	}
	raw, err := json.Marshal(now)
	if err != nil {
		return fmt.Errorf("encode the inventory: %w", err)
	}
	record := &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Name: inventoryName, Namespace: i.Namespace},
		Data:       map[string]string{"objects": string(raw), "tag": i.Tag, "registry": i.Registry},
	}
	u, err := apply.Unstructured(record)
	if err != nil {
		return err
	}
	_, _, err = i.applier().Apply(ctx, mark(u))
	return i.explain(err)
}

// entry names one object of the inventory.
type entry struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
}

func entryOf(u *unstructured.Unstructured) entry {
	return entry{u.GetAPIVersion(), u.GetKind(), u.GetNamespace(), u.GetName()}
}

// keepsData tells that users' objects would go with this one: only an uninstallation may remove it.
func (e entry) keepsData() bool {
	return e.Kind == "CustomResourceDefinition" || e.Kind == "KubeVirt" || e.Kind == "CDI" || e.Kind == "Namespace"
}

func (e entry) object() *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetAPIVersion(e.APIVersion)
	u.SetKind(e.Kind)
	u.SetNamespace(e.Namespace)
	u.SetName(e.Name)
	return u
}

func (i *Installer) inventory(ctx context.Context) ([]entry, error) {
	record, err := i.dynamic.Resource(configMapResource).Namespace(i.Namespace).Get(ctx, inventoryName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, i.explain(fmt.Errorf("read the inventory: %w", err))
	}
	raw, _, _ := unstructured.NestedString(record.Object, "data", "objects")
	var out []entry
	if err := json.Unmarshal([]byte(raw), &out); err != nil {
		return nil, fmt.Errorf("the inventory ConfigMap %s/%s is damaged: delete it and install again: %w", i.Namespace, inventoryName, err)
	}
	return out, nil
}
