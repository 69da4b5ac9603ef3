// Package drift keeps installed objects as they should be without writing to a cluster in which nothing changed.
package drift

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/apply"
)

// Tracker applies objects only when that can change something: when what is wanted is new, or when the stored object is not
// the one this process left behind. An idle cluster sees no writes from it. A Secret that somebody has deleted, to have another key, after
// the caller read it, is not brought back: that is a conflict.
type Tracker struct {
	// Applier writes, Reader reads what is watched.
	Applier apply.Applier
	Reader  client.Reader

	mu      sync.Mutex
	applied map[string]applied
}

// applied is what was wanted and what the API server answered.
type applied struct {
	hash    [sha256.Size]byte
	version string
}

// parallelApplies keeps an installation short without flooding the API server.
const parallelApplies = 8

// ApplyAll applies objects, several at a time.
func (t *Tracker) ApplyAll(ctx context.Context, objects []runtime.Object) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelApplies)
	for _, obj := range objects {
		group.Go(func() error { return t.apply(ctx, obj) })
	}
	return group.Wait()
}

func (t *Tracker) apply(ctx context.Context, obj runtime.Object) error {
	u, err := apply.Unstructured(obj)
	if err != nil {
		return err
	}
	body, err := json.Marshal(u)
	if err != nil {
		return fmt.Errorf("encode %s: %w", apply.Describe(u), err)
	}
	hash, key := sha256.Sum256(body), apply.Describe(u)
	t.mu.Lock()
	last, known := t.applied[key]
	t.mu.Unlock()
	if known && last.hash == hash {
		version, err := t.stored(ctx, obj, u)
		if err != nil {
			return err
		}
		if version == last.version {
			return nil
		}
		if version == "" && u.GetKind() == "Secret" {
			t.forget(u)
			return apierrors.NewConflict(schema.GroupResource{Resource: "secrets"}, u.GetName(),
				errors.New("it was deleted a moment ago: its key must not come back"))
		}
	}
	after, _, err := t.Applier.Apply(ctx, u)
	if err != nil {
		return err
	}
	t.mu.Lock()
	if t.applied == nil {
		t.applied = map[string]applied{}
	}
	t.applied[key] = applied{hash: hash, version: contentVersion(after)}
	t.mu.Unlock()
	return nil
}

// stored is the version of the object in the cache, or "" when it is not there.
func (t *Tracker) stored(ctx context.Context, obj runtime.Object, u *unstructured.Unstructured) (string, error) {
	var live client.Object
	switch u.GetKind() {
	case "Deployment", "DaemonSet", "Secret", "ConfigMap":
		typed, ok := obj.DeepCopyObject().(client.Object)
		if !ok {
			return "", fmt.Errorf("%s cannot be read back", apply.Describe(u))
		}
		live = typed
	default:
		live = Metadata(u.GroupVersionKind())
	}
	err := t.Reader.Get(ctx, client.ObjectKeyFromObject(u), live)
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", apply.Describe(u), err)
	}
	return contentVersion(live), nil
}

// contentVersion changes when what was asked for changes. Where the API server counts generations, status updates (a
// Deployment's progress) do not count.
func contentVersion(obj metav1.Object) string {
	if g := obj.GetGeneration(); g != 0 {
		return fmt.Sprintf("%s/%d/%v", obj.GetUID(), g, obj.GetLabels())
	}
	return fmt.Sprintf("%s@%s", obj.GetUID(), obj.GetResourceVersion())
}

// Delete removes an object, and with it what is known about it.
func (t *Tracker) Delete(ctx context.Context, u *unstructured.Unstructured) error {
	t.forget(u)
	_, err := t.Applier.Delete(ctx, u)
	return err
}

func (t *Tracker) forget(u *unstructured.Unstructured) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.applied, apply.Describe(u))
}

// Metadata is an object of a kind that is watched by its metadata only.
func Metadata(gvk schema.GroupVersionKind) client.Object {
	m := &metav1.PartialObjectMetadata{}
	m.SetGroupVersionKind(gvk)
	return m
}
