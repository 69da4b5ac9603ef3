package serving

import (
	"context"
	"sync"
)

// Tracker counts open sessions, so that a server which is going away can wait for them. The zero value counts and waits; to tell
// sessions to end takes NewTracker.
type Tracker struct {
	mu   sync.Mutex
	open int
	idle chan struct{}
	stop chan struct{}
}

// NewTracker makes a Tracker.
func NewTracker() *Tracker { return &Tracker{stop: make(chan struct{})} }

// Add counts a session and gives what to call at its end.
func (t *Tracker) Add() (done func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open++
	return sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.open--
		if t.open == 0 && t.idle != nil {
			close(t.idle)
			t.idle = nil
		}
	})
}

// Stop is closed when sessions must end now.
func (t *Tracker) Stop() <-chan struct{} { return t.stop }

// Wait waits until all sessions have ended by themselves or ctx has ended, and tells how many are left.
func (t *Tracker) Wait(ctx context.Context) (left int) {
	t.mu.Lock()
	if t.open > 0 && t.idle == nil {
		t.idle = make(chan struct{})
	}
	idle := t.idle
	t.mu.Unlock()
	if idle == nil {
		return 0
	}
	select {
	case <-idle:
		return 0
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open
}

// Drain waits, and when ctx ends first, tells the sessions to end. Call it once.
func (t *Tracker) Drain(ctx context.Context) (left int) {
	left = t.Wait(ctx)
	if left > 0 {
		close(t.stop)
		t.Wait(context.WithoutCancel(ctx))
	}
	return left
}
