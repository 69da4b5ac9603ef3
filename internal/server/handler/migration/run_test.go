package migration

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

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

type fakePath struct {
	err    error
	closed bool
}

func (p *fakePath) Err() error   { return p.err }
func (p *fakePath) Close() error { p.closed = true; return nil }

func TestRun(t *testing.T) {
	moving := wire.MigrationProgress{Phase: "precopy", TotalBytes: 1 << 30, ProcessedBytes: 1}
	for _, c := range []struct {
		name     string
		launcher *fakeLauncher
		path     *fakePath
		limits   Limits
		abort    bool
		want     string
		aborted  bool
		postCopy bool
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
		{name: "post-copy", launcher: newFake(moving), path: &fakePath{}, limits: Limits{PerGiB: 1, PostCopy: true}, postCopy: true},
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
			run := Begin(t.Context(), "move-1", c.launcher, wire.MigrateRequest{}, path, c.limits, func() { close(ended) })
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
			if run.PostCopy() != c.postCopy {
				t.Errorf("post-copy: %v", run.PostCopy())
			}
		})
	}
}
