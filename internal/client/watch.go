package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// Event is one change of one object.
type Event[T any] struct {
	Type   watch.EventType
	Object *T
	// Initial is true for the objects that existed when following began.
	Initial bool
}

// Follow tells fn about every object the options choose, then about each change, until fn says it is done, fn fails or the
// context ends. Broken watches are taken up again where they ended; changes missed meanwhile are reported, not lost.
func (r Resource[T]) Follow(ctx context.Context, opts ListOptions, fn func(Event[T]) (bool, error)) error {
	f := follower[T]{resource: r, opts: opts, fn: fn, known: map[string]*T{}}
	first := true
	for {
		done, err := f.relist(ctx, first)
		if err != nil && (first || !transient(err)) || done {
			return err
		}
		if err == nil {
			first = false
			if done, err = f.watch(ctx); done || err != nil {
				return err
			}
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
}

type follower[T any] struct {
	resource Resource[T]
	opts     ListOptions
	fn       func(Event[T]) (bool, error)
	known    map[string]*T
}

// relist reads the present state and reports what differs from what was reported before.
func (f *follower[T]) relist(ctx context.Context, initial bool) (bool, error) {
	list, err := f.resource.List(ctx, f.opts)
	if err != nil {
		return false, err
	}
	f.opts.ResourceVersion = list.ResourceVersion
	gone := f.known
	f.known = make(map[string]*T, len(list.Items))
	for i := range list.Items {
		object := &list.Items[i]
		key := keyOf(object)
		kind := watch.Added
		if before, ok := gone[key]; ok {
			kind = watch.Modified
			delete(gone, key)
			if versionOf(before) == versionOf(object) {
				f.known[key] = object
				continue
			}
		}
		f.known[key] = object
		if done, err := f.fn(Event[T]{Type: kind, Object: object, Initial: initial}); done || err != nil {
			return done, err
		}
	}
	for _, object := range gone {
		if done, err := f.fn(Event[T]{Type: watch.Deleted, Object: object}); done || err != nil {
			return done, err
		}
	}
	if initial {
		return f.fn(Event[T]{Type: watch.Bookmark, Initial: true})
	}
	return false, nil
}

// watch reports changes until the watch cannot be continued from where it ended; then the caller lists again.
func (f *follower[T]) watch(ctx context.Context) (bool, error) {
	for {
		done, err := f.watchOnce(ctx)
		var end *handlerError
		switch {
		case errors.As(err, &end):
			return false, end.err
		case ctx.Err() != nil:
			return false, context.Cause(ctx)
		case done:
			return true, nil
		case err != nil && !transient(err) && !expired(err):
			return false, err
		case err != nil:
			f.opts.ResourceVersion = ""
			return false, nil
		}
	}
}

// watchOnce reads one watch connection to its end.
func (f *follower[T]) watchOnce(ctx context.Context) (bool, error) {
	stream, err := f.resource.selected(f.resource.client.long.Get(), f.opts).
		Param("watch", "true").Param("allowWatchBookmarks", "true").Stream(ctx)
	if err != nil {
		return false, err
	}
	defer func() { _ = stream.Close() }()
	decoder := json.NewDecoder(stream)
	for {
		var raw metav1.WatchEvent
		if err := decoder.Decode(&raw); err != nil {
			if errors.Is(err, io.EOF) {
				return false, nil
			}
			return false, err
		}
		event, err := f.event(raw)
		if err != nil {
			return false, err
		}
		if event == nil {
			continue
		}
		done, err := f.fn(*event)
		if err != nil {
			return false, &handlerError{err}
		}
		if done {
			return true, nil
		}
	}
}

// event decodes a watch event and keeps the books; bookmarks give nil.
func (f *follower[T]) event(raw metav1.WatchEvent) (*Event[T], error) {
	if raw.Type == string(watch.Error) {
		status := &metav1.Status{}
		if err := unmarshal(raw.Object.Raw, status); err != nil {
			return nil, fmt.Errorf("read the watch's error: %w", err)
		}
		return nil, apierrors.FromObject(status)
	}
	object := new(T)
	if err := unmarshal(raw.Object.Raw, object); err != nil {
		return nil, fmt.Errorf("read a watched %s: %w", f.resource.kind.Kind, err)
	}
	f.opts.ResourceVersion = versionOf(object)
	if raw.Type == string(watch.Bookmark) {
		return nil, nil
	}
	setKind(object, f.resource.kind)
	f.known[keyOf(object)] = object
	if raw.Type == string(watch.Deleted) {
		delete(f.known, keyOf(object))
	}
	return &Event[T]{Type: watch.EventType(raw.Type), Object: object}, nil
}

// handlerError keeps a handler's error apart from the connection's.
type handlerError struct{ err error }

func (e *handlerError) Error() string { return e.err.Error() }

func expired(err error) bool {
	return apierrors.IsResourceExpired(err) || apierrors.IsGone(err)
}

// transient errors end when the API server is back: everything that is not the server's own refusal.
func transient(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return true
	}
	code := status.Status().Code
	return code >= http.StatusInternalServerError || code == http.StatusTooManyRequests
}

// pause keeps a client from hammering a server that is coming back.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

func keyOf(obj any) string {
	object, err := meta.Accessor(obj)
	if err != nil {
		return ""
	}
	return object.GetNamespace() + "/" + object.GetName()
}

func versionOf(obj any) string {
	object, err := meta.Accessor(obj)
	if err != nil {
		return ""
	}
	return object.GetResourceVersion()
}
