package migration

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/libvirt/wire"
)

// callTimeout bounds short calls to the launcher.
const callTimeout = 30 * time.Second

// cutAfter is how long an abort may take before the connections to the target are cut.
const cutAfter = 10 * time.Second

// Launcher is the source's launcher.
type Launcher interface {
	Migrate(ctx context.Context, r wire.MigrateRequest, fn func(wire.MigrationProgress) error) error
	AbortMigration(ctx context.Context) error
	PostCopy(ctx context.Context) error
	Suspend(ctx context.Context) (wire.State, error)
}

// Path is how the guest travels; nil when a migration is joined that an earlier virt-handler began.
type Path interface {
	Err() error
	// Close may be called more than once.
	Close() error
}

// Limits end a migration that does not come to an end by itself. Zero means no limit.
type Limits struct {
	// Progress is how long nothing may be transferred.
	Progress time.Duration
	// PerGiB is how long each GiB of memory and disks may take. A guest that changes its memory faster is then switched to post-copy or
	// stopped until all of it is there, if Disrupt says so. From then on the rest only gets less, and only Progress limits it.
	PerGiB            time.Duration
	Disrupt, PostCopy bool
	// MinBytes is the least that there is to transfer.
	MinBytes uint64
}

// Hooks are told how a migration goes on.
type Hooks struct {
	// Moved is called now and then while it runs: see Run.Due.
	Moved func()
	// Ended is called when it is over.
	Ended func()
}

// Plan is what a migration does; with an empty request it joins one that an earlier virt-handler began.
type Plan struct {
	Migration types.UID
	Request   wire.MigrateRequest
	Path      Path
	Limits    Limits
}

// Outcome is how a migration ended on the source.
type Outcome struct {
	// Failure is why the guest is still here, "" if it has gone.
	Failure string
	Aborted bool
}

// Run is a migration away from this node.
type Run struct {
	Migration types.UID

	launcher Launcher
	limits   Limits
	path     Path
	now      func() time.Time

	mu       sync.Mutex
	aborting bool
	why      string // our own reason for aborting
	postCopy bool
	paused   bool
	stall    *time.Timer
	cut      *time.Timer
	last     wire.MigrationProgress
	due      bool
	told     time.Time
	outcome  *Outcome
	moved    func()
}

// Begin starts, or with an empty request joins, a migration.
func Begin(ctx context.Context, launcher Launcher, plan Plan, hooks Hooks) *Run {
	r := &Run{Migration: plan.Migration, launcher: launcher, limits: plan.Limits, path: plan.Path, now: time.Now, moved: hooks.Moved}
	if limit := r.limits.Progress; limit > 0 {
		r.stall = time.AfterFunc(limit, func() {
			r.giveUp(fmt.Sprintf("nothing was transferred for %s (progressTimeout)", limit))
		})
	}
	go func() {
		r.finish(r.migrate(ctx, plan.Request))
		hooks.Ended()
	}()
	return r
}

func (r *Run) migrate(ctx context.Context, request wire.MigrateRequest) error {
	began := r.now()
	r.told = began
	return r.launcher.Migrate(ctx, request, func(p wire.MigrationProgress) error {
		r.progress(p, r.now().Sub(began))
		return nil
	})
}

func (r *Run) progress(p wire.MigrationProgress, elapsed time.Duration) {
	r.mu.Lock()
	moved := p.ProcessedBytes != r.last.ProcessedBytes || p.Phase != r.last.Phase
	r.last = p
	if moved && r.stall != nil {
		r.stall.Reset(r.limits.Progress)
	}
	if p.Phase == "postcopy" {
		r.postCopy = true
	}
	settled := p.Done || r.postCopy
	r.tell(elapsed)
	again := r.aborting && !settled
	r.mu.Unlock()
	if again {
		go r.callAbort() // the first request may have come before there was anything to abort
		return
	}
	allowed := r.allowed(p)
	switch {
	case settled || allowed == 0 || elapsed <= allowed || r.pausedNow():
	case r.limits.Disrupt && r.limits.PostCopy:
		r.switchOver()
	case r.limits.Disrupt:
		r.pause()
	default:
		r.giveUp(fmt.Sprintf("the migration did not finish within %s (completionTimeoutPerGiB): the guest changes its memory faster than it can be sent; "+
			"allow post-copy, auto-converge or workload disruption, or raise the bandwidth", allowed))
	}
}

// Progress is told rarely: every write of it goes to the API server. The longer a migration takes, the less often.
const (
	tellAfter = 2 * time.Second
	tellEvery = 10 // parts of the time it has taken
)

// tell has the progress written down when the last time is long enough ago.
func (r *Run) tell(elapsed time.Duration) {
	if now := r.now(); !r.last.Done && now.Sub(r.told) >= max(tellAfter, elapsed/tellEvery) {
		r.due, r.told = true, now
		if r.moved != nil {
			go r.moved()
		}
	}
}

// Due gives the progress that is worth writing down, once.
func (r *Run) Due() (wire.MigrationProgress, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	due := r.due
	r.due = false
	return r.last, due
}

// Last is the newest progress, when the migration is over its account.
func (r *Run) Last() wire.MigrationProgress {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// pause stops the guest, so that its memory stops changing; libvirt lets it run again on whichever node it ends up.
func (r *Run) pause() {
	r.mu.Lock()
	r.paused, r.due = true, true
	r.mu.Unlock()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		defer cancel()
		if _, err := r.launcher.Suspend(ctx); err != nil {
			r.giveUp(fmt.Sprintf("the migration took too long and the guest could not be paused: %v", err))
			return
		}
		if r.moved != nil {
			r.moved()
		}
	}()
}

func (r *Run) pausedNow() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.paused
}

// allowed is how long the migration may take.
func (r *Run) allowed(p wire.MigrationProgress) time.Duration {
	bytes := max(p.TotalBytes, r.limits.MinBytes)
	return r.limits.PerGiB * time.Duration((bytes+1<<30-1)>>30)
}

func (r *Run) switchOver() {
	r.mu.Lock()
	r.postCopy, r.due = true, true
	r.mu.Unlock()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		defer cancel()
		if err := r.launcher.PostCopy(ctx); err != nil {
			r.mu.Lock()
			r.postCopy = false
			r.mu.Unlock()
			r.giveUp(fmt.Sprintf("the migration took too long and could not be switched to post-copy: %v", err))
			return
		}
		if r.moved != nil {
			r.moved()
		}
	}()
}

// Abort ends the migration; the guest stays here. After the switch to post-copy there is no way back.
func (r *Run) Abort() { r.giveUp("") }

func (r *Run) giveUp(why string) {
	r.mu.Lock()
	start := !r.aborting && !r.postCopy && r.outcome == nil
	if start {
		r.aborting, r.why = true, why
		if r.path != nil {
			// Where the target does not answer any more, an abort does not end either until the connections do.
			r.cut = time.AfterFunc(cutAfter, func() { _ = r.path.Close() })
		}
	}
	r.mu.Unlock()
	if start {
		go r.callAbort()
	}
}

func (r *Run) callAbort() {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	// If it fails, there is nothing to abort: not yet, then progress asks again, or not any more.
	_ = r.launcher.AbortMigration(ctx)
}

func (r *Run) finish(err error) {
	path := r.path
	o := &Outcome{}
	r.mu.Lock()
	if r.stall != nil {
		r.stall.Stop()
	}
	if r.cut != nil {
		r.cut.Stop()
	}
	switch {
	case wire.CodeOf(err) == wire.CodeInvalid && path == nil:
		o.Failure = "virt-handler was restarted during the migration, which cut the guest's way to its target; the guest goes on here; migrate again"
	case err != nil:
		o.Failure = fmt.Sprintf("the migration could not be followed: %v", err)
	case r.last.Failure != "" && r.why != "":
		o.Failure = r.why
	case r.last.Failure != "" && r.aborting:
		o.Failure, o.Aborted = "the migration was aborted", true
	case r.last.Failure != "":
		o.Failure = r.last.Failure
	}
	r.mu.Unlock()
	if path != nil {
		if reason := path.Err(); reason != nil && o.Failure != "" && !o.Aborted {
			o.Failure = fmt.Sprintf("%v: %s", reason, o.Failure)
		}
		_ = path.Close()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcome = o
}

// Outcome is nil while the migration runs.
func (r *Run) Outcome() *Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.outcome
}

// Mode is how the guest travels now.
func (r *Run) Mode() v1.MigrationMode {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.postCopy:
		return v1.MigrationPostCopy
	case r.paused:
		return v1.MigrationPaused
	}
	return v1.MigrationPreCopy
}
