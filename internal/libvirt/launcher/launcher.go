// Package launcher is what PID 1 of a virtual machine's pod does: it keeps libvirt's daemon running, makes disks ready, starts
// the one domain of the pod when virt-handler says so, and ends when the domain has ended and virt-handler knows it.
package launcher

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"virtctl/internal/libvirt/console"
	"virtctl/internal/libvirt/daemon"
	"virtctl/internal/libvirt/dhcp"
	"virtctl/internal/libvirt/launcher/park"
	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/process"
	"virtctl/internal/libvirt/session"
	"virtctl/internal/libvirt/wire"
)

// flushPatience is how long the launcher waits at its end for the log to be written.
const flushPatience = 2 * time.Second

// Options say where a launcher's output goes.
type Options struct {
	Version string
	// Stdout takes the guest's console output, Stderr the launcher's own messages and libvirt's warnings.
	Stdout, Stderr *os.File
	// LibvirtLog are libvirt's log_filters for a log of all it does; empty for its warnings alone.
	LibvirtLog string
}

// Launcher is one run of the program.
type Launcher struct {
	opts    Options
	dirs    daemon.Dirs
	reaper  *process.Reaper
	manager *manager
	machine *machine
	console *console.Hub
	dhcp    *dhcp.Server
	events  *eventQueue

	// ctx lives as long as the launcher; work that outlives a call uses it.
	ctx context.Context
	// quit is closed when a caller asked the launcher to end.
	quit     chan struct{}
	quitOnce sync.Once

	starting  sync.Mutex
	preparing sync.Mutex
	power     powerOff
	migration migration
	parked    park.Lot
	thaws     deadline
	warmUp    sync.Once
	keeping   sync.Once

	mu     sync.Mutex
	grace  time.Duration
	domain string // its name, as soon as one exists
	qemu   int    // QEMU's process id
}

// Dirs are the directories of a launcher pod.
func Dirs() daemon.Dirs {
	return daemon.Dirs{
		Home: layout.PrivateDir, Cache: layout.CacheDir, Runtime: layout.RuntimeDir, Config: layout.ConfigDir,
		Temp: layout.TempDir,
	}
}

// New returns a launcher for Run.
func New(opts Options) *Launcher {
	l := &Launcher{
		opts: opts, dirs: Dirs(), reaper: process.NewReaper(), machine: newMachine(time.Now),
		events: newEventQueue(), quit: make(chan struct{}), grace: defaultGrace,
	}
	l.manager = newManager(daemon.Options{Dirs: l.dirs, Reaper: l.reaper, Stderr: opts.Stderr, LogFilters: opts.LibvirtLog}, l.events.put)
	l.manager.logf = l.logf
	l.manager.opened = l.resync
	l.manager.guestLives = func() bool { s := l.machine.current(); return s.State != wire.StateNone && !final(s.State) }
	l.dhcp = dhcp.NewServer(l.logf)
	return l
}

func (l *Launcher) logf(format string, args ...any) {
	fmt.Fprintf(l.opts.Stderr, "virt-launcher: "+format+"\n", args...)
}

// Run serves until the launcher is told to quit or to terminate, and returns the exit code.
func (l *Launcher) Run(ctx context.Context) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.ctx = ctx
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM, syscall.SIGINT)
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
	log, err := consoleLog(l.opts.Stdout)
	if err != nil {
		l.logf("%v", err)
		return 1
	}
	l.console = console.New(log)
	if err := errors.Join(makeDirs(), linkState(layout.StateDir)); err != nil {
		l.logf("%v", err)
		return 1
	}
	go l.reaper.Run(ctx)
	go l.handleEvents(ctx)
	go l.keepClock(ctx)
	failed := make(chan error, 2)
	managed := make(chan struct{})
	go func() { defer close(managed); report(failed, l.manager.run(ctx)) }()
	served := make(chan struct{})
	go func() { defer close(served); report(failed, l.serve(ctx)) }()
	code := l.wait(terminate, failed)
	l.dhcp.Close()
	l.closeConsole()
	cancel()
	<-served
	<-managed
	return code
}

func report(to chan<- error, err error) {
	if err != nil {
		to <- err
	}
}

// wait returns the exit code once there is a reason to end.
func (l *Launcher) wait(terminate <-chan os.Signal, failed <-chan error) int {
	select {
	case <-l.quit:
		l.endGuest()
		return 0
	case err := <-failed:
		l.logf("%v", err)
		l.endGuest()
		return 1
	case <-terminate:
	}
	if !l.machine.started() {
		l.logf("told to end before a virtual machine was started")
		l.endGuest()
		return 1
	}
	l.terminate(failed)
	return 0
}

func makeDirs() error {
	dirs := []string{layout.DiskDir, layout.NVRAMDir, layout.CacheDir, layout.RuntimeDir, layout.ConfigDir, layout.MigrationDir}
	// libvirt passes over those of its shared_filesystems that do not exist when it starts.
	for _, dir := range append(dirs, layout.ISODirs()...) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make the launcher's directories: %w", err)
		}
	}
	return nil
}

// serve listens under a temporary name first: whoever sees the socket's real name can connect.
func (l *Launcher) serve(ctx context.Context) error {
	temporary := layout.LauncherSocket + ".new"
	for _, path := range []string{temporary, layout.LauncherSocket} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove a stale socket: %w", err)
		}
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return fmt.Errorf("listen for virt-handler: %w", err)
	}
	listener.SetUnlinkOnClose(false)
	defer os.Remove(layout.LauncherSocket)
	if err := os.Chmod(temporary, 0o600); err != nil {
		return fmt.Errorf("listen for virt-handler: %w", err)
	}
	if err := os.Rename(temporary, layout.LauncherSocket); err != nil {
		return fmt.Errorf("listen for virt-handler: %w", err)
	}
	return wire.Serve(ctx, listener, l.handlers())
}

// closeConsole waits for the log, but not for a log that nobody reads.
func (l *Launcher) closeConsole() {
	closed := make(chan struct{})
	go func() { defer close(closed); l.console.Close() }()
	timer := time.NewTimer(flushPatience)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C:
	}
}

// resync adopts what a new session finds: after a daemon's death the guest may have gone on or not.
func (l *Launcher) resync(s *session.Session) {
	name, state, reason, err := s.State()
	switch {
	case err == nil:
		l.setDomain(name)
		l.machine.set(state, reason, "")
		if xml, err := s.XML(wire.DomainXMLRequest{}); err == nil {
			l.machine.setAgent(agentConnected(xml))
			l.machine.setMemory(pluggedMemory(xml))
		}
	case wire.CodeOf(err) == wire.CodeNotFound:
		if now := l.machine.current().State; now != wire.StateNone {
			l.machine.set(wire.StateCrashed, wire.ReasonCrashed, l.obituary())
		}
	default:
		l.logf("%v", err)
	}
}

// setDomain remembers what obituary needs: libvirt removes the file with QEMU's process id.
func (l *Launcher) setDomain(name string) {
	pid, err := readPID(l.dirs.PIDFile(name))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.domain == "" {
		go func() {
			if err := boundLog(l.ctx, l.dirs.LogFile(name)); err != nil {
				l.logf("%v", err)
			}
		}()
	}
	l.domain = name
	if err == nil {
		l.qemu = pid
	}
}

func (l *Launcher) identity() (name string, pid int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.domain, l.qemu
}
