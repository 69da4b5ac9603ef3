// Package apply brings objects to the API server by server-side apply, and takes them away again.
//
// It is used by `virtctl install` and by virt-operator, so that both mean the same by "applied", "unchanged" and "gone".
package apply

import (
	"context"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// Result tells what happened to an object.
type Result string

// The results, as they are printed.
const (
	Created    Result = "created"
	Configured Result = "configured"
	Unchanged  Result = "unchanged"
	Deleted    Result = "deleted"
	Absent     Result = "absent"
)

// Applier applies objects as one field manager.
type Applier struct {
	Client dynamic.Interface
	Mapper interface {
		RESTMapping(kind schema.GroupKind, versions ...string) (*meta.RESTMapping, error)
	}
	Manager string
	// DryRun asks the server to check and answer without storing anything.
	DryRun bool
}

// Apply applies one object and returns it as stored. Conflicts with other field managers are taken over: the objects are ours.
func (a *Applier) Apply(ctx context.Context, obj *unstructured.Unstructured) (*unstructured.Unstructured, Result, error) {
	resource, err := a.resource(obj)
	if err != nil {
		return nil, "", err
	}
	before, err := resource.Get(ctx, obj.GetName(), metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, "", fmt.Errorf("read %s: %w", Describe(obj), err)
	}
	missing := err != nil
	body, err := json.Marshal(obj)
	if err != nil {
		return nil, "", fmt.Errorf("encode %s: %w", Describe(obj), err)
	}
	force := true
	opts := metav1.PatchOptions{FieldManager: a.Manager, Force: &force}
	if a.DryRun {
		opts.DryRun = []string{metav1.DryRunAll}
	}
	after, err := resource.Patch(ctx, obj.GetName(), types.ApplyPatchType, body, opts)
	if err != nil {
		return nil, "", fmt.Errorf("apply %s: %w", Describe(obj), err)
	}
	switch {
	case missing:
		return after, Created, nil
	case before.GetResourceVersion() == after.GetResourceVersion():
		return after, Unchanged, nil
	default:
		return after, Configured, nil
	}
}

// Delete removes one object in the background and tells whether it was there. An object of another UID than the one given in
// obj (if any) is left alone.
func (a *Applier) Delete(ctx context.Context, obj *unstructured.Unstructured) (Result, error) {
	resource, err := a.resource(obj)
	if meta.IsNoMatchError(err) {
		return Absent, nil
	}
	if err != nil {
		return "", err
	}
	policy := metav1.DeletePropagationBackground
	opts := metav1.DeleteOptions{PropagationPolicy: &policy}
	if uid := obj.GetUID(); uid != "" {
		opts.Preconditions = &metav1.Preconditions{UID: &uid}
	}
	err = resource.Delete(ctx, obj.GetName(), opts)
	if apierrors.IsNotFound(err) {
		return Absent, nil
	}
	if err != nil {
		return "", fmt.Errorf("delete %s: %w", Describe(obj), err)
	}
	return Deleted, nil
}

func (a *Applier) resource(obj *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	gvk := obj.GroupVersionKind()
	mapping, err := a.Mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return nil, fmt.Errorf("find the resource for %s: %w", Describe(obj), err)
	}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		return a.Client.Resource(mapping.Resource).Namespace(obj.GetNamespace()), nil
	}
	return a.Client.Resource(mapping.Resource), nil
}

// Describe names an object as people write it: deployment.apps/kubevirt/virt-api.
func Describe(obj *unstructured.Unstructured) string {
	gvk := obj.GroupVersionKind()
	kind := gvk.Kind
	if gvk.Group != "" {
		kind += "." + gvk.Group
	}
	if ns := obj.GetNamespace(); ns != "" {
		return kind + " " + ns + "/" + obj.GetName()
	}
	return kind + " " + obj.GetName()
}

// Unstructured turns a typed object whose TypeMeta is set into what Apply takes: without status and without the fields only
// the server fills.
func Unstructured(obj runtime.Object) (*unstructured.Unstructured, error) {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		return u, nil
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", obj, err)
	}
	u := &unstructured.Unstructured{Object: content}
	if u.GetKind() == "" || u.GetAPIVersion() == "" {
		return nil, fmt.Errorf("encode %T %s: kind and apiVersion are not set", obj, u.GetName())
	}
	unstructured.RemoveNestedField(content, "status")
	prune(content)
	return u, nil
}

// prune drops nulls (creationTimestamp: null, in templates too), which server-side apply would otherwise claim.
func prune(content map[string]any) {
	for key, value := range content {
		switch v := value.(type) {
		case nil:
			delete(content, key)
		case map[string]any:
			prune(v)
		case []any:
			for _, item := range v {
				if m, ok := item.(map[string]any); ok {
					prune(m)
				}
			}
		}
	}
}
