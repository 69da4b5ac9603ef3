package client

import (
	"context"

	"k8s.io/apimachinery/pkg/watch"
)

// Change is one thing that a watch reported about something whose state S is put together from several objects.
type Change[S any] struct {
	// Apply brings it into the state.
	Apply func(*S)
	// Synced tells that the watch has now told everything that was there when it began.
	Synced bool
	Err    error
}

// Gather sends every change of one object until ctx ends; set puts the object into the state, nil when it is gone.
func Gather[S, T any](ctx context.Context, r Resource[T], name string, to chan<- Change[S], set func(*S, *T)) {
	send := func(c Change[S]) error {
		select {
		case to <- c:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := r.Follow(ctx, Named(name), func(e Event[T]) (bool, error) {
		switch e.Type {
		case watch.Bookmark:
			return false, send(Change[S]{Apply: func(*S) {}, Synced: true})
		case watch.Deleted:
			return false, send(Change[S]{Apply: func(s *S) { set(s, nil) }})
		}
		return false, send(Change[S]{Apply: func(s *S) { set(s, e.Object) }})
	})
	if err != nil && ctx.Err() == nil {
		_ = send(Change[S]{Err: err})
	}
}
