// Package writer writes what reconcilers found out: once per real change, never on top of something newer, and never twice
// from the same old copy of an object.
//
// Every write is a merge patch of what differs, with the resourceVersion it was computed from. After a write the cache still
// holds the old object for some milliseconds; a reconciler that ran on it would compute the same patch again. Stale tells it
// to leave: the object's next version is on its way and will bring it back.
package writer

import (
	"context"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Writer writes objects of one kind.
type Writer struct {
	client client.Client

	mu sync.Mutex
	// wrote are the versions that writes were based on and that the cache may still show.
	wrote map[types.NamespacedName][]stamp
}

// stamp is the version of an object that a write was based on.
type stamp struct {
	uid             types.UID
	resourceVersion string
}

// New gives a Writer that writes with c.
func New(c client.Client) *Writer {
	return &Writer{client: c, wrote: map[types.NamespacedName][]stamp{}}
}

// Stale tells whether obj, read from the cache, has been replaced by a write of ours that the cache has not seen yet.
func (w *Writer) Stale(obj client.Object) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := client.ObjectKeyFromObject(obj)
	if slices.Contains(w.wrote[key], stampOf(obj)) {
		return true
	}
	delete(w.wrote, key)
	return false
}

// Forget drops what is known about an object that is gone.
func (w *Writer) Forget(key types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.wrote, key)
}

// Patch writes the difference between before and after to the object. It tells whether there was one to write. When somebody
// else was faster it writes nothing and reports no error: the newer object starts another reconciliation.
func (w *Writer) Patch(ctx context.Context, before, after client.Object) (bool, error) {
	return w.write(before, after, func(p client.Patch) error { return w.client.Patch(ctx, after, p) })
}

// PatchStatus is Patch for the status subresource.
func (w *Writer) PatchStatus(ctx context.Context, before, after client.Object) (bool, error) {
	return w.write(before, after, func(p client.Patch) error { return w.client.Status().Patch(ctx, after, p) })
}

func (w *Writer) write(before, after client.Object, do func(client.Patch) error) (bool, error) {
	diff, err := client.MergeFrom(before).Data(after)
	if err != nil {
		return false, err
	}
	if string(diff) == "{}" {
		return false, nil
	}
	from := stampOf(before)
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := do(patch); err != nil {
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return false, nil
		}
		return false, err
	}
	// A write that changed nothing brings no event, so the copy is not old. The removal of the last finalizer does: the object
	// goes, with the version it had.
	gone := after.GetDeletionTimestamp() != nil && len(after.GetFinalizers()) == 0
	if gone || after.GetResourceVersion() != from.resourceVersion {
		w.mu.Lock()
		key := client.ObjectKeyFromObject(before)
		w.wrote[key] = append(w.wrote[key], from)
		w.mu.Unlock()
	}
	return true, nil
}

func stampOf(obj client.Object) stamp { return stamp{obj.GetUID(), obj.GetResourceVersion()} }
