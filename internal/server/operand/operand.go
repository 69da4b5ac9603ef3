// Package operand is what an operator has installed: it is found by its label, and taken away in an order that lets what still runs
// clean up after users' objects.
package operand

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/apply"
)

// ErrWaiting is no failure: an event will say when it goes on. Whoever got it calls again after Patience all the same.
var ErrWaiting = errors.New("waiting")

// Patience is how long a definition may take to go before it is looked after.
const Patience = 10 * time.Second

// lookedAfter is when a definition that did not go was last written to.
const lookedAfter = "virtctl.io/looked-after"

// DefinitionGVK is the kind of definitions of kinds.
func DefinitionGVK() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}
}

// Set is everything with the label of one operator. What came from `virtctl install` has another: virtctl takes it away itself.
type Set struct {
	Client interface {
		client.Reader
		client.Writer
	}
	Deleter interface {
		Delete(ctx context.Context, u *unstructured.Unstructured) error
	}
	Label client.MatchingLabels
}

// Remove takes everything away. The definitions go first: that removes every object of a user while the components that must clean
// up and drop finalizers still run. The other kinds go, in their order, when no definition is left; until then it is ErrWaiting.
func (s Set) Remove(ctx context.Context, kinds []schema.GroupVersionKind) error {
	definitions, err := s.list(ctx, DefinitionGVK())
	if err != nil {
		return err
	}
	if len(definitions) > 0 {
		var names []string
		for i := range definitions {
			names = append(names, definitions[i].Name)
			if err := s.let(ctx, &definitions[i]); err != nil {
				return err
			}
		}
		// In one order, or it is new text each time, and a write.
		slices.Sort(names)
		return fmt.Errorf("%w until no object is left of %s", ErrWaiting, strings.Join(names, ", "))
	}
	return s.keep(ctx, kinds, nil)
}

// let makes a definition go. A loaded API server may fail to list the objects of one that it has just begun to serve, and not try
// again for minutes: it looks at it again when the definition's metadata changes.
func (s Set) let(ctx context.Context, definition *metav1.PartialObjectMetadata) error {
	if definition.DeletionTimestamp == nil {
		return s.delete(ctx, definition)
	}
	since := definition.DeletionTimestamp.Time
	if last, err := time.Parse(time.RFC3339, definition.Annotations[lookedAfter]); err == nil {
		since = last
	}
	now := time.Now()
	if now.Sub(since) < Patience {
		return nil
	}
	before := client.MergeFrom(definition.DeepCopy())
	metav1.SetMetaDataAnnotation(&definition.ObjectMeta, lookedAfter, now.UTC().Format(time.RFC3339))
	if err := s.Client.Patch(ctx, definition, before); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("look after definition %s: %w", definition.Name, err)
	}
	return nil
}

// Prune deletes of these kinds what an earlier version or configuration installed and is not wanted now. A definition is never
// dropped: that would delete users' objects.
func (s Set) Prune(ctx context.Context, kinds []schema.GroupVersionKind, wanted []runtime.Object) error {
	keep := map[string]bool{}
	for _, obj := range wanted {
		u, err := apply.Unstructured(obj)
		if err != nil {
			return err
		}
		keep[apply.Describe(u)] = true
	}
	return s.keep(ctx, kinds, keep)
}

func (s Set) keep(ctx context.Context, kinds []schema.GroupVersionKind, keep map[string]bool) error {
	for _, gvk := range kinds {
		if gvk == DefinitionGVK() {
			continue
		}
		objects, err := s.list(ctx, gvk)
		if err != nil {
			return err
		}
		for i := range objects {
			if keep[apply.Describe(reference(&objects[i]))] {
				continue
			}
			if err := s.delete(ctx, &objects[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s Set) list(ctx context.Context, gvk schema.GroupVersionKind) ([]metav1.PartialObjectMetadata, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(gvk)
	if err := s.Client.List(ctx, list, s.Label); err != nil {
		return nil, fmt.Errorf("list %s: %w", gvk.Kind, err)
	}
	for i := range list.Items {
		list.Items[i].SetGroupVersionKind(gvk)
	}
	return list.Items, nil
}

func (s Set) delete(ctx context.Context, obj *metav1.PartialObjectMetadata) error {
	return s.Deleter.Delete(ctx, reference(obj))
}

// reference names an object, this one and no later one of its name.
func reference(obj *metav1.PartialObjectMetadata) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(obj.GroupVersionKind())
	u.SetName(obj.Name)
	u.SetNamespace(obj.Namespace)
	u.SetUID(obj.UID)
	return u
}
