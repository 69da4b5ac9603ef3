package supervise

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"syscall"
	"time"
)

const (
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 5 * time.Second
	// settled is how long a program must have run for its next failure to count as the first.
	settled = 10 * time.Second
	// defaultGrace is the time between SIGTERM and SIGKILL.
	defaultGrace = 10 * time.Second
)

// Unit keeps one program running until told otherwise.
type Unit struct {
	spec    Spec
	starter Starter
	// first and last bound the waits between restarts; tests shorten them.
	first, last time.Duration

	mu       sync.Mutex
	proc     Process
	ready    chan struct{}
	restarts int
	lastErr  error
	cancel   context.CancelFunc
	ended    chan struct{}
}

// NewUnit returns a stopped unit.
func NewUnit(starter Starter, spec Spec) *Unit {
	return &Unit{spec: spec, starter: starter, first: firstBackoff, last: lastBackoff, ready: make(chan struct{})}
}

// Name is the unit's name.
func (u *Unit) Name() string { return u.spec.Name }

// Start starts the program and keeps it running. Starting a running unit does nothing.
func (u *Unit) Start() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	u.cancel, u.ended = cancel, make(chan struct{})
	go u.run(ctx, u.ended)
}

// Stop ends the program (SIGTERM, then SIGKILL) and returns when it is gone.
func (u *Unit) Stop() { u.stop(syscall.SIGTERM) }

// Kill ends the program with SIGKILL and does not restart it.
func (u *Unit) Kill() { u.stop(syscall.SIGKILL) }

func (u *Unit) stop(sig syscall.Signal) {
	u.mu.Lock()
	cancel, ended, proc := u.cancel, u.ended, u.proc
	u.cancel = nil
	u.mu.Unlock()
	if cancel == nil {
		return
	}
	cancel()
	if proc == nil {
		<-ended
		return
	}
	if err := proc.Signal(sig); err != nil {
		slog.Warn("signal failed", "unit", u.spec.Name, "err", err)
	}
	grace := cmp.Or(u.spec.Grace, defaultGrace)
	timeout := time.NewTimer(grace)
	defer timeout.Stop()
	select {
	case <-ended:
	case <-timeout.C:
		slog.Warn("did not end in time, killing it", "unit", u.spec.Name, "grace", grace)
		if err := proc.Signal(syscall.SIGKILL); err != nil {
			slog.Warn("signal failed", "unit", u.spec.Name, "err", err)
		}
		<-ended
	}
}

// Status is what can be seen of a unit.
type Status struct {
	Name     string `json:"name"`
	Running  bool   `json:"running"`
	Ready    bool   `json:"ready"`
	Pid      int    `json:"pid,omitempty"`
	Restarts int    `json:"restarts"`
	Error    string `json:"error,omitempty"`
}

// Status reports the present state.
func (u *Unit) Status() Status {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := Status{Name: u.spec.Name, Restarts: u.restarts}
	if u.proc != nil {
		s.Running, s.Pid = true, u.proc.Pid()
	}
	if u.lastErr != nil {
		s.Error = u.lastErr.Error()
	}
	select {
	case <-u.ready:
		s.Ready = s.Running
	default:
	}
	return s
}

// WaitReady waits for the program's first readiness. It gives up when the program failed more often than a slow start explains.
func (u *Unit) WaitReady(ctx context.Context) error {
	u.mu.Lock()
	ready := u.ready
	u.mu.Unlock()
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		if s := u.Status(); s.Error != "" {
			return fmt.Errorf("%s is not ready: %s; see %s", u.spec.Name, s.Error, u.spec.Log)
		}
		return fmt.Errorf("%s is not ready: %w; see %s", u.spec.Name, context.Cause(ctx), u.spec.Log)
	}
}

// run is the life of a started unit.
func (u *Unit) run(ctx context.Context, ended chan struct{}) {
	defer close(ended)
	backoff := u.first
	for ctx.Err() == nil {
		began := time.Now()
		err := u.once(ctx)
		if u.spec.Cleanup != nil {
			u.spec.Cleanup()
		}
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > settled {
			backoff = u.first
		}
		slog.Warn("ended, starting it again", "unit", u.spec.Name, "err", err, "in", backoff)
		timer := time.NewTimer(backoff)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		u.mu.Lock()
		u.restarts++
		u.mu.Unlock()
		backoff = min(2*backoff, u.last)
	}
}

// once runs the program one time.
func (u *Unit) once(ctx context.Context) error {
	spec := u.spec
	var notify *notifySocket
	if spec.Notify {
		var err error
		if notify, err = listenNotify(); err != nil {
			u.note(nil, err)
			return err
		}
		defer notify.close()
		spec.Env = append(spec.Env[:len(spec.Env):len(spec.Env)], "NOTIFY_SOCKET="+notify.address())
	}
	proc, err := u.starter.Start(spec)
	if err != nil {
		u.note(nil, err)
		return err
	}
	if spec.Started != nil {
		if err := spec.Started(proc.Pid()); err != nil {
			_ = proc.Signal(syscall.SIGKILL) // it is not what it should be; the error below says why
			_ = proc.Wait()
			u.note(nil, err)
			return err
		}
	}
	u.note(proc, nil)
	if ctx.Err() != nil { // stopped between start and note: nobody else will end it
		_ = proc.Signal(syscall.SIGKILL)
	}
	if notify == nil {
		u.markReady()
	} else {
		go notify.wait(u.markReady)
	}
	err = proc.Wait()
	if err == nil {
		err = fmt.Errorf("exit status 0")
	}
	u.note(nil, err)
	return err
}

func (u *Unit) note(p Process, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.proc = p; p == nil {
		select {
		case <-u.ready:
			u.ready = make(chan struct{})
		default:
		}
	}
	u.lastErr = err
}

func (u *Unit) markReady() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.proc == nil {
		return
	}
	select {
	case <-u.ready:
	default:
		close(u.ready)
	}
}
