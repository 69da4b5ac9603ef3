// Package snapshot reads and makes VolumeSnapshots, in clusters that have them.
package snapshot

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
)

// Definitions of the kinds.
const (
	Definition      = "volumesnapshots.snapshot.storage.k8s.io"
	ClassDefinition = "volumesnapshotclasses.snapshot.storage.k8s.io"
)

// Group and Kind of references to snapshots.
const (
	Group = "snapshot.storage.k8s.io"
	Kind  = "VolumeSnapshot"
)

// New is an empty snapshot.
func New() *unstructured.Unstructured { return empty(Kind) }

// NewClass is an empty class.
func NewClass() *unstructured.Unstructured { return empty("VolumeSnapshotClass") }

// NewContent is the empty content of a snapshot.
func NewContent() *unstructured.Unstructured { return empty("VolumeSnapshotContent") }

func empty(kind string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(schema.GroupVersionKind{Group: Group, Version: "v1", Kind: kind})
	return u
}

// Of is a snapshot of a claim that has yet to be made.
func Of(namespace, name, claim, class string) *unstructured.Unstructured {
	s := New()
	s.SetNamespace(namespace)
	s.SetName(name)
	s.SetLabels(map[string]string{names.LabelApp: names.LabelAppValue, names.LabelComponent: names.ComponentSmartClone})
	s.Object["spec"] = map[string]any{
		"source": map[string]any{"persistentVolumeClaimName": claim}, "volumeSnapshotClassName": class,
	}
	return s
}

// Ready tells whether volumes can be made from a snapshot, and why it failed if it did.
func Ready(s *unstructured.Unstructured) (ready bool, failed string) {
	ready, _, _ = unstructured.NestedBool(s.Object, "status", "readyToUse")
	failed, _, _ = unstructured.NestedString(s.Object, "status", "error", "message")
	return ready, failed
}

// Size is how large a volume made from the snapshot must be.
func Size(s *unstructured.Unstructured) resource.Quantity {
	text, _, _ := unstructured.NestedString(s.Object, "status", "restoreSize")
	size, err := resource.ParseQuantity(text)
	if err != nil {
		return resource.Quantity{}
	}
	return size
}

// Maker is the driver that made the snapshot, and the volume mode of what it was made from; either is empty while nobody has told.
func Maker(ctx context.Context, c client.Reader, s *unstructured.Unstructured) (driver string, mode corev1.PersistentVolumeMode, err error) {
	mode = corev1.PersistentVolumeMode(s.GetAnnotations()[names.AnnSourceVolumeMode])
	name, _, _ := unstructured.NestedString(s.Object, "status", "boundVolumeSnapshotContentName")
	if name == "" {
		return "", mode, nil
	}
	content := NewContent()
	if err := c.Get(ctx, client.ObjectKey{Name: name}, content); err != nil {
		return "", mode, fmt.Errorf("read snapshot content %s: %w", name, err)
	}
	driver, _, _ = unstructured.NestedString(content.Object, "spec", "driver")
	if told, _, _ := unstructured.NestedString(content.Object, "spec", "sourceVolumeMode"); mode == "" {
		mode = corev1.PersistentVolumeMode(told)
	}
	return driver, mode, nil
}

// Class picks the snapshot class for volumes of a driver: the wanted one, else the default, else the first by name. It is empty when
// there is none.
func Class(ctx context.Context, live client.Reader, driver string, wanted *string) (string, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(schema.GroupVersionKind{Group: Group, Version: "v1", Kind: "VolumeSnapshotClassList"})
	if err := live.List(ctx, list); err != nil {
		if meta.IsNoMatchError(err) {
			return "", nil
		}
		return "", fmt.Errorf("list the snapshot classes: %w", err)
	}
	slices.SortFunc(list.Items, func(a, b unstructured.Unstructured) int { return strings.Compare(a.GetName(), b.GetName()) })
	first := ""
	for i := range list.Items {
		c := &list.Items[i]
		if d, _, _ := unstructured.NestedString(c.Object, "driver"); d != driver {
			continue
		}
		switch {
		case wanted != nil && *wanted == c.GetName():
			return c.GetName(), nil
		case c.GetAnnotations()[names.AnnDefaultSnapshotClass] == "true" && wanted == nil:
			return c.GetName(), nil
		case first == "":
			first = c.GetName()
		}
	}
	return first, nil
}
