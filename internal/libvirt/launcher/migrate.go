package launcher

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/session"
	"virtctl/internal/libvirt/wire"
)

const (
	// progressEvery is how often the progress of a migration is told to whoever asked for it. QEMU has no event for progress.
	progressEvery = 500 * time.Millisecond
	// accountPatience is how long libvirt's final account may come after the migration's end.
	accountPatience = time.Second
	accountEvery    = 10 * time.Millisecond
)

// How long a guest may stand still for the rest of its memory. QEMU stops it as soon as it expects the rest to go over in that time.
// Most guests change little while what they changed is sent again, and need no more than the first; one that changes its memory
// quickly is given more and more once all of it has been sent, until the longest time the administrator allows.
const (
	firstDowntime = 20 // ms; handing the disks over and the state of the devices come on top
	firstRamp     = time.Second
)

// migration is the one outgoing migration that may run.
type migration struct {
	mu      sync.Mutex
	run     *migrationRun
	aborted bool
}

type migrationRun struct {
	sent    chan struct{}               // closed when all memory has been sent once
	account chan wire.MigrationProgress // libvirt's final account
	done    chan struct{}               // closed when result is set
	result  wire.MigrationProgress
}

// sentOnce tells that all memory has been sent, and that QEMU begins with what has changed since.
func (m *migration) sentOnce() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.run == nil {
		return
	}
	select {
	case <-m.run.sent:
	default:
		close(m.run.sent)
	}
}

// finished takes libvirt's final account.
func (m *migration) finished(p wire.MigrationProgress) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.run == nil {
		return
	}
	select {
	case m.run.account <- p:
	default:
	}
}

// migrate starts a migration, or joins the one that runs (a handler that was restarted), and streams its progress.
func (l *Launcher) migrate(ctx context.Context, call *wire.Call) error {
	var r wire.MigrateRequest
	if err := call.Decode(&r); err != nil {
		return err
	}
	s, err := l.manager.get(ctx)
	if err != nil {
		return err
	}
	run, err := l.startMigration(s, r)
	if err != nil {
		return err
	}
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	for {
		select {
		case <-run.done:
			return call.Reply(run.result)
		case <-ctx.Done():
			return nil // the migration goes on
		case <-ticker.C:
		}
		if p, ok, err := s.Progress(); err == nil && ok {
			if err := call.Reply(p); err != nil {
				return nil
			}
		}
	}
}

func (l *Launcher) startMigration(s *session.Session, r wire.MigrateRequest) (*migrationRun, error) {
	m := &l.migration
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.run != nil {
		return m.run, nil
	}
	for _, path := range []string{r.LibvirtSocket, r.MemorySocket} {
		if path == "" {
			return nil, &wire.Error{Code: wire.CodeInvalid, Message: "a migration needs the sockets that lead to its target"}
		}
	}
	if r.MaxDowntimeMillis > 0 {
		if err := s.SetMaxDowntime(min(firstDowntime, r.MaxDowntimeMillis)); err != nil {
			return nil, err
		}
	}
	m.run = &migrationRun{sent: make(chan struct{}), account: make(chan wire.MigrationProgress, 1), done: make(chan struct{})}
	m.aborted = false
	go l.runMigration(s, r, m.run)
	return m.run, nil
}

func (l *Launcher) runMigration(s *session.Session, r wire.MigrateRequest, run *migrationRun) {
	began := time.Now()
	go run.rampDowntime(r.MaxDowntimeMillis, s.SetMaxDowntime)
	err := s.Migrate(r)
	var account wire.MigrationProgress
	timer := time.NewTimer(accountPatience)
	defer timer.Stop()
	select {
	case account = <-run.account:
	case <-timer.C:
	}
	if account.ElapsedMillis == 0 {
		account.ElapsedMillis = uint64(time.Since(began).Milliseconds())
	}
	account.Phase, account.Done = "done", true
	l.migration.mu.Lock()
	defer l.migration.mu.Unlock()
	if err != nil {
		account.Failure, account.Aborted = err.Error(), l.migration.aborted
		l.logf("%v", err)
	}
	run.result = account
	l.migration.run = nil
	close(run.done)
}

// arrival is the account of the migration that brought the guest here. libvirt draws it up a moment after the guest runs, and has no
// event for that.
func (l *Launcher) arrival(ctx context.Context) (wire.MigrationProgress, error) {
	ctx, cancel := context.WithTimeout(ctx, accountPatience)
	defer cancel()
	ticker := time.NewTicker(accountEvery)
	defer ticker.Stop()
	for {
		account, err := read(ctx, l, (*session.Session).Arrival)
		if err != nil || account.TotalBytes > 0 {
			return account, err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return account, nil
		}
	}
}

// rampDowntime doubles the allowed downtime until it is the longest allowed, each step after twice the time of the one before. While
// memory is sent for the first time there is nothing to be impatient about, however long that takes.
func (run *migrationRun) rampDowntime(longest uint64, set func(millis uint64) error) {
	select {
	case <-run.done:
		return
	case <-run.sent:
	}
	wait := firstRamp
	for allowed := uint64(firstDowntime); allowed < longest; wait *= 2 {
		timer := time.NewTimer(wait)
		select {
		case <-run.done:
			timer.Stop()
			return
		case <-timer.C:
		}
		allowed = min(2*allowed, longest)
		if set(allowed) != nil {
			return // the migration has just ended
		}
	}
}

func (l *Launcher) abortMigration(ctx context.Context, _ struct{}) error {
	return l.onMigration(ctx, func(s *session.Session) error {
		l.migration.mu.Lock()
		l.migration.aborted = true
		l.migration.mu.Unlock()
		return s.AbortMigration()
	})
}

func (l *Launcher) postCopy(ctx context.Context, _ struct{}) error {
	return l.onMigration(ctx, (*session.Session).StartPostCopy)
}

func (l *Launcher) onMigration(ctx context.Context, fn func(*session.Session) error) error {
	l.migration.mu.Lock()
	running := l.migration.run != nil
	l.migration.mu.Unlock()
	if !running {
		return &wire.Error{Code: wire.CodeNotFound, Message: "no migration is running"}
	}
	s, err := l.manager.get(ctx)
	if err != nil {
		return err
	}
	return fn(s)
}

// libvirtStream is the target's end of libvirt's own connection.
func (l *Launcher) libvirtStream(ctx context.Context, _ struct{}) (*os.File, error) {
	if _, err := l.manager.get(ctx); err != nil {
		return nil, err
	}
	return dialFile(ctx, l.manager.socketPath())
}

func (l *Launcher) migrationPort(ctx context.Context, r wire.MigrationPortRequest) (*os.File, error) {
	switch r.Kind {
	case "memory":
		return dialFile(ctx, layout.MigrationMemorySocket)
	case "nbd":
		return dialFile(ctx, layout.MigrationNBDSocket)
	}
	return nil, &wire.Error{Code: wire.CodeInvalid, Message: fmt.Sprintf("no migration stream is called %q", r.Kind)}
}

// dialFile connects to a unix socket in the pod and returns the connection as a file that can be passed on.
func dialFile(ctx context.Context, path string) (*os.File, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		code := wire.CodeUnavailable
		if errors.Is(err, os.ErrNotExist) {
			code = wire.CodeNotFound
		}
		return nil, &wire.Error{Code: code, Message: fmt.Sprintf("nothing listens in the pod: %v", err)}
	}
	defer conn.Close()
	return conn.(*net.UnixConn).File()
}
