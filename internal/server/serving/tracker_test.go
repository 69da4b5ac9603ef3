package serving

import (
	"context"
	"testing"
)

// An upgrade of the platform must not cut consoles off, but cannot wait for them for ever either.
func TestTrackerDrains(t *testing.T) {
	idle := NewTracker()
	if left := idle.Drain(t.Context()); left != 0 {
		t.Errorf("%d left of nothing", left)
	}
	polite := NewTracker()
	end := polite.Add()
	drained := make(chan int, 1)
	go func() { drained <- polite.Drain(t.Context()) }()
	end()
	end()
	if left := <-drained; left != 0 {
		t.Errorf("%d left", left)
	}
	stubborn := NewTracker()
	for range 2 {
		end := stubborn.Add()
		go func() { <-stubborn.Stop(); end() }()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if left := stubborn.Drain(ctx); left != 2 {
		t.Errorf("%d had to be told, want 2", left)
	}
}
