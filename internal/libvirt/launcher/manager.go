package launcher

import (
	"context"
	"fmt"
	"sync"
	"time"

	"virtctl/internal/libvirt/daemon"
	"virtctl/internal/libvirt/session"
	"virtctl/internal/libvirt/wire"
)

const (
	// firstBackoff and maxBackoff bound how fast a daemon that keeps dying is started again; the first time it is at once.
	firstBackoff = time.Second
	maxBackoff   = 30 * time.Second
	// stableAfter is how long the daemon must live for its death to count as the first again.
	stableAfter = 2 * time.Minute
	// maxStarts bounds starts in a row while there is no guest to keep.
	maxStarts = 5
)

// manager keeps libvirt's daemon running and a session to it open.
type manager struct {
	opts daemon.Options
	sink func(session.Event)
	// opened is called with every new session before anyone else gets it.
	opened func(*session.Session)
	// guestLives tells whether there is a guest worth keeping a failing daemon for.
	guestLives func() bool
	logf       func(format string, args ...any)

	mu      sync.Mutex
	current *session.Session
	socket  string
	changed chan struct{} // closed when current changes
}

func newManager(opts daemon.Options, sink func(session.Event)) *manager {
	return &manager{opts: opts, sink: sink, changed: make(chan struct{})}
}

// run returns when ctx ends (nil) or the daemon cannot be kept running.
func (m *manager) run(ctx context.Context) error {
	backoff, starts := time.Duration(0), 0
	for {
		began := time.Now()
		err := m.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > stableAfter {
			backoff, starts = 0, 0
		}
		starts++
		m.logf("%v", err)
		if starts >= maxStarts && !m.guestLives() {
			return fmt.Errorf("libvirt failed %d times in a row: %w", starts, err)
		}
		timer := time.NewTimer(backoff)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		backoff = min(max(2*backoff, firstBackoff), maxBackoff)
	}
}

// once runs the daemon until it dies; it always returns an error.
func (m *manager) once(ctx context.Context) error {
	d, err := daemon.Start(ctx, m.opts)
	if err != nil {
		return err
	}
	s, err := session.Open(d.Socket, m.sink)
	if err != nil {
		d.Kill()
		<-d.Done()
		return err
	}
	m.opened(s)
	m.publish(s, d.Socket)
	select {
	case <-d.Done():
		err = fmt.Errorf("libvirt's daemon %s; starting it again", d.Exit())
	case <-s.Closed():
		d.Kill()
		<-d.Done()
		err = fmt.Errorf("libvirt's daemon closed the connection; starting it again")
	case <-ctx.Done():
		d.Stop()
		err = ctx.Err()
	}
	m.publish(nil, "")
	s.Close()
	return err
}

func (m *manager) publish(s *session.Session, socket string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.current, m.socket = s, socket
	close(m.changed)
	m.changed = make(chan struct{})
}

// get returns the session, waiting for the daemon if it is just starting.
func (m *manager) get(ctx context.Context) (*session.Session, error) {
	for {
		m.mu.Lock()
		s, changed := m.current, m.changed
		m.mu.Unlock()
		if s != nil && s.Alive() {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, &wire.Error{Code: wire.CodeUnavailable, Message: "libvirt is not running in this pod; try again"}
		}
	}
}

// peek returns the session if there is one now.
func (m *manager) peek() *session.Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.current
}

// socketPath is where the daemon listens.
func (m *manager) socketPath() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.socket
}
