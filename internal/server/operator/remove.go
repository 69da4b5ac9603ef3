package operator

import (
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"virtctl/internal/apply"
	"virtctl/internal/install/components"
)

var definitionGVK = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}

// remove takes the platform away. The definitions go first: that removes every VM while the components that must stop guests and
// drop finalizers still run. The rest goes when no definition is left.
func (r *Reconciler) remove(ctx context.Context, kv *v1.KubeVirt) error {
	if !controllerutil.ContainsFinalizer(kv, Finalizer) {
		return nil
	}
	left, err := r.ours(ctx, definitionGVK)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		var names []string
		for i := range left {
			names = append(names, left[i].Name)
			if left[i].DeletionTimestamp != nil {
				continue
			}
			if err := r.delete(ctx, &left[i]); err != nil {
				return err
			}
		}
		return fmt.Errorf("waiting until no object is left of %s", strings.Join(names, ", "))
	}
	for _, gvk := range append([]schema.GroupVersionKind{
		{Group: "apps", Version: "v1", Kind: "DaemonSet"}, {Group: "apps", Version: "v1", Kind: "Deployment"},
		{Version: "v1", Kind: "Secret"}, {Version: "v1", Kind: "ConfigMap"},
	}, watched...) {
		if err := r.deleteKind(ctx, gvk); err != nil {
			return err
		}
	}
	controllerutil.RemoveFinalizer(kv, Finalizer)
	kv.Status.Phase = v1.KubeVirtPhaseDeleted
	return nil
}

func (r *Reconciler) deleteKind(ctx context.Context, gvk schema.GroupVersionKind) error {
	objects, err := r.ours(ctx, gvk)
	if err != nil {
		return err
	}
	for i := range objects {
		if bootstrapped(&objects[i]) {
			continue
		}
		if err := r.delete(ctx, &objects[i]); err != nil {
			return err
		}
	}
	return nil
}

// bootstrapped tells that an object came from `virtctl install`, which takes it away itself.
func bootstrapped(obj client.Object) bool {
	return obj.GetLabels()[components.ManagedByLabel] != components.ManagedBy
}

func (r *Reconciler) ours(ctx context.Context, gvk schema.GroupVersionKind) ([]metav1.PartialObjectMetadata, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(gvk)
	opts := []client.ListOption{client.MatchingLabels{components.ManagedByLabel: components.ManagedBy}}
	if err := r.client.List(ctx, list, opts...); err != nil {
		return nil, fmt.Errorf("list %s: %w", gvk.Kind, err)
	}
	for i := range list.Items {
		list.Items[i].SetGroupVersionKind(gvk)
	}
	return list.Items, nil
}

func (r *Reconciler) delete(ctx context.Context, obj *metav1.PartialObjectMetadata) error {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(obj.GroupVersionKind())
	u.SetName(obj.Name)
	u.SetNamespace(obj.Namespace)
	u.SetUID(obj.UID)
	return r.applier.Delete(ctx, u)
}

// prune deletes what an earlier version or configuration installed and this one does not want.
func (r *Reconciler) prune(ctx context.Context, opts components.Options) error {
	wanted := map[string]bool{}
	for _, obj := range append(static(opts), registrations(opts)...) {
		u, err := apply.Unstructured(obj)
		if err != nil {
			return err
		}
		wanted[apply.Describe(u)] = true
	}
	for _, gvk := range watched {
		if gvk == definitionGVK {
			continue // a definition is never dropped on an update: that would delete users' objects
		}
		if err := r.pruneKind(ctx, gvk, wanted); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reconciler) pruneKind(ctx context.Context, gvk schema.GroupVersionKind, wanted map[string]bool) error {
	objects, err := r.ours(ctx, gvk)
	if err != nil {
		return err
	}
	for i := range objects {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&objects[i])
		if err != nil {
			return fmt.Errorf("decode %s %s: %w", gvk.Kind, objects[i].Name, err)
		}
		if wanted[apply.Describe(&unstructured.Unstructured{Object: content})] {
			continue
		}
		if err := r.delete(ctx, &objects[i]); err != nil {
			return err
		}
	}
	return nil
}
