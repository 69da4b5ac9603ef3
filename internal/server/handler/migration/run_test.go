package migration

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/libvirt/wire"
)

// fakeLauncher migrates as long as it is told to.
type fakeLauncher struct {
	steps    []wire.MigrationProgress
	err      error
	aborted  chan struct{}
	once     sync.Once
	postCopy chan struct{}
}

func newFake(steps ...wire.MigrationProgress) *fakeLauncher {
	return &fakeLauncher{steps: steps, aborted: make(chan struct{}), postCopy: make(chan struct{}, 9)}
}

// Migrate tells the steps; a last one that is not done waits for an abort or a post-copy.
func (f *fakeLauncher) Migrate(ctx context.Context, _ wire.MigrateRequest, fn func(wire.MigrationProgress) error) error {
	if f.err != nil {
		return f.err
	}
	for _, p := range f.steps {
		if err := fn(p); err != nil || p.Done {
			return err
		}
	}
	select {
	case <-f.aborted:
		return fn(wire.MigrationProgress{Done: true, Aborted: true, Failure: "operation aborted"})
	case <-f.postCopy:
		return fn(wire.MigrationProgress{Done: true})
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *fakeLauncher) AbortMigration(context.Context) error {
	f.once.Do(func() { close(f.aborted) })
	return nil
}

func (f *fakeLauncher) PostCopy(context.Context) error {
	f.postCopy <- struct{}{}
	return nil
}

func (f *fakeLauncher) Suspend(context.Context) (wire.State, error) {
	f.postCopy <- struct{}{}
	return wire.State{}, nil
}

type fakePath struct {
	err    error
	closed bool
}

func (p *fakePath) Err() error   { return p.err }
func (p *fakePath) Close() error { p.closed = true; return nil }

func TestRun(t *testing.T) {
	moving := wire.MigrationProgress{Phase: "precopy", TotalBytes: 1 << 30, ProcessedBytes: 1}
	further := wire.MigrationProgress{Phase: "precopy", TotalBytes: 1 << 30, ProcessedBytes: 2}
	for _, c := range []struct {
		name     string
		launcher *fakeLauncher
		path     *fakePath
		limits   Limits
		abort    bool
		want     string
		aborted  bool
		mode     v1.MigrationMode
	}{
		{name: "goes", launcher: newFake(moving, wire.MigrationProgress{Done: true}), path: &fakePath{}},
		{name: "fails", launcher: newFake(wire.MigrationProgress{Done: true, Failure: "no space"}), path: &fakePath{}, want: "no space"},
		{
			name: "no way", launcher: newFake(wire.MigrationProgress{Done: true, Failure: "end of file"}),
			path: &fakePath{err: errors.New("connection refused")}, want: "connection refused: end of file",
		},
		{name: "aborted", launcher: newFake(moving), path: &fakePath{}, abort: true, want: "aborted", aborted: true},
		{name: "stalls", launcher: newFake(moving), path: &fakePath{}, limits: Limits{Progress: time.Millisecond}, want: "progressTimeout"},
		{name: "too slow", launcher: newFake(moving), path: &fakePath{}, limits: Limits{PerGiB: 1}, want: "completionTimeoutPerGiB"},
		{name: "post-copy", launcher: newFake(moving), path: &fakePath{}, limits: Limits{PerGiB: 1, Disrupt: true, PostCopy: true}, mode: v1.MigrationPostCopy},
		{name: "paused", launcher: newFake(moving), path: &fakePath{}, limits: Limits{PerGiB: 1, Disrupt: true}, mode: v1.MigrationPaused},
		{
			name: "paused for as long as the rest takes", path: &fakePath{}, limits: Limits{PerGiB: 1, Disrupt: true}, mode: v1.MigrationPaused,
			launcher: newFake(moving, further, wire.MigrationProgress{Done: true}),
		},
		{name: "not to be disturbed", launcher: newFake(moving), path: &fakePath{}, limits: Limits{PerGiB: 1, PostCopy: true}, want: "completionTimeoutPerGiB"},
		{
			name: "after a restart", launcher: &fakeLauncher{err: &wire.Error{Code: wire.CodeInvalid, Message: "a migration needs sockets"}},
			want: "virt-handler was restarted",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var path Path
			if c.path != nil {
				path = c.path
			}
			ended := make(chan struct{})
			run := Begin(t.Context(), c.launcher, Plan{Migration: "move-1", Path: path, Limits: c.limits}, Hooks{Ended: func() { close(ended) }})
			if c.abort {
				run.Abort()
			}
			<-ended
			o := run.Outcome()
			if o == nil || o.Aborted != c.aborted || (o.Failure == "") != (c.want == "") || !strings.Contains(o.Failure, c.want) {
				t.Fatalf("outcome %+v, want %q", o, c.want)
			}
			if c.path != nil && !c.path.closed {
				t.Error("the path stays open")
			}
			if want := cmp.Or(c.mode, v1.MigrationPreCopy); run.Mode() != want {
				t.Errorf("mode %s, want %s", run.Mode(), want)
			}
		})
	}
}

// Progress reaches the API server rarely, and the less often the longer a migration takes.
func TestProgressIsToldRarely(t *testing.T) {
	now := time.Unix(0, 0)
	r := &Run{now: func() time.Time { return now }, told: now}
	told := 0
	for elapsed := time.Duration(0); elapsed < 10*time.Minute; elapsed += 500 * time.Millisecond {
		now = time.Unix(0, 0).Add(elapsed)
		r.progress(wire.MigrationProgress{Phase: "precopy", ProcessedBytes: uint64(elapsed)}, elapsed)
		if p, due := r.Due(); due {
			told++
			if p.ProcessedBytes != uint64(elapsed) {
				t.Fatalf("after %s it tells of %d", elapsed, p.ProcessedBytes)
			}
		}
		if elapsed < 2*time.Second && told > 0 {
			t.Fatalf("told after %s", elapsed)
		}
	}
	if told < 20 || told > 60 {
		t.Errorf("told %d times in ten minutes", told)
	}
}

// A virt-handler that is to end waits for the guests under way, whichever way they go, and lets its successor begin with others.
func TestNodeFinishes(t *testing.T) {
	n := &Node{Receiver: &Receiver{}}
	away, ok := n.Take()
	here, also := n.Take()
	if !ok || !also {
		t.Fatal("a node refuses migrations")
	}
	pod := types.NamespacedName{Namespace: "default", Name: "pod"}
	n.Receiver.Expect("move-2", Guest{Pod: pod, Done: here})
	hurried, cancel := context.WithCancel(t.Context())
	cancel()
	if left := n.Finish(hurried); left != 2 {
		t.Errorf("%d migrations left, want 2", left)
	}
	if _, ok := n.Take(); ok {
		t.Error("a node that is to end takes one more")
	}
	finished := make(chan int)
	go func() { finished <- n.Finish(t.Context()) }()
	away()
	n.Receiver.Forget(pod)
	if left := <-finished; left != 0 {
		t.Errorf("%d migrations left", left)
	}
}
