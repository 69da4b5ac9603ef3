package operator

import (
	"context"
	"errors"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"virtctl/internal/apply"
	"virtctl/internal/cdi/names"
	components "virtctl/internal/install/components/cdi"
)

// errWaiting is no failure: an event will say when it goes on.
var errWaiting = errors.New("waiting")

// remove takes CDI away. The definitions go first: that removes every DataVolume while the controller that must clean up after
// them still runs. The rest goes when no definition is left.
func (r *Reconciler) remove(ctx context.Context, cdi *cdiv1.CDI) error {
	if !controllerutil.ContainsFinalizer(cdi, names.FinalizerOperator) {
		return nil
	}
	left, err := r.ours(ctx, definitionGVK)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		var waitFor []string
		for i := range left {
			waitFor = append(waitFor, left[i].Name)
			if left[i].DeletionTimestamp != nil {
				continue
			}
			if err := r.delete(ctx, &left[i]); err != nil {
				return err
			}
		}
		return fmt.Errorf("%w until no object is left of %s", errWaiting, strings.Join(waitFor, ", "))
	}
	for _, gvk := range append([]schema.GroupVersionKind{
		{Group: "apps", Version: "v1", Kind: "Deployment"}, {Version: "v1", Kind: "Secret"}, {Version: "v1", Kind: "ConfigMap"},
	}, r.kinds()...) {
		if err := r.deleteAll(ctx, gvk, nil); err != nil {
			return err
		}
	}
	controllerutil.RemoveFinalizer(cdi, names.FinalizerOperator)
	return nil
}

// prune deletes what an earlier version or configuration installed and this one does not want.
func (r *Reconciler) prune(ctx context.Context, opts components.Options) error {
	wanted := map[string]bool{}
	for _, obj := range append(components.Static(opts), components.Registrations(opts)...) {
		u, err := apply.Unstructured(obj)
		if err != nil {
			return err
		}
		wanted[apply.Describe(u)] = true
	}
	for _, gvk := range r.kinds() {
		if gvk == definitionGVK {
			continue // a definition is never dropped on an update: that would delete users' objects
		}
		if err := r.deleteAll(ctx, gvk, wanted); err != nil {
			return err
		}
	}
	return nil
}

// deleteAll deletes what the operator installed of a kind, but for what is kept. What came from `virtctl install` has another
// label.
func (r *Reconciler) deleteAll(ctx context.Context, gvk schema.GroupVersionKind, keep map[string]bool) error {
	objects, err := r.ours(ctx, gvk)
	if err != nil {
		return err
	}
	for i := range objects {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&objects[i])
		if err != nil {
			return fmt.Errorf("decode %s %s: %w", gvk.Kind, objects[i].Name, err)
		}
		if keep[apply.Describe(&unstructured.Unstructured{Object: content})] {
			continue
		}
		if err := r.delete(ctx, &objects[i]); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reconciler) ours(ctx context.Context, gvk schema.GroupVersionKind) ([]metav1.PartialObjectMetadata, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(gvk)
	if err := r.client.List(ctx, list, client.MatchingLabels{names.LabelManagedBy: managedBy}); err != nil {
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
