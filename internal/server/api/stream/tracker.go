package stream

import (
	"context"
	"sync"
)

// Tracker counts open sessions, so that a server which is going away can wait for them.
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

// Drain waits until all sessions have ended by themselves, and when ctx ends first, tells them to. Call it once.
func (t *Tracker) Drain(ctx context.Context) (left int) {
	t.mu.Lock()
	if t.open == 0 {
		t.mu.Unlock()
		return 0
	}
	idle := make(chan struct{})
	t.idle = idle
	t.mu.Unlock()
	select {
	case <-idle:
		return 0
	case <-ctx.Done():
	}
	t.mu.Lock()
	left = t.open
	t.mu.Unlock()
	close(t.stop)
	<-idle
	return left
}
