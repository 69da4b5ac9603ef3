// Package process starts children and reaps every process that ends up with the launcher, which is PID 1 of its container: its
// own children and the orphans of libvirt's, QEMU above all. Because one wait4 collects them all, nothing in the launcher may
// start processes in another way (os/exec would find its children gone).
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// keptOrphans is how many ends of processes we did not start are remembered for Orphan.
const keptOrphans = 32

// Exit is how a process ended.
type Exit struct {
	PID    int
	Status syscall.WaitStatus
}

// String says it in words a person can use.
func (e Exit) String() string {
	if e.Status.Signaled() {
		return fmt.Sprintf("was killed by signal %d (%s)", int(e.Status.Signal()), e.Status.Signal())
	}
	return fmt.Sprintf("exited with code %d", e.Status.ExitStatus())
}

// Reaper collects ended processes. The zero value is not usable; call NewReaper.
type Reaper struct {
	mu       sync.Mutex
	children map[int]*Child
	orphans  []Exit
}

// NewReaper returns a Reaper; Run must run while it is used.
func NewReaper() *Reaper { return &Reaper{children: map[int]*Child{}} }

// Child is a process that Start started.
type Child struct {
	PID  int
	done chan struct{}
	exit Exit
}

// Done is closed when the process has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Exit says how it ended; only meaningful once Done is closed.
func (c *Child) Exit() Exit { return c.exit }

// Command is what to start. Files become descriptors 0, 1, 2, ...; nil ones are /dev/null.
type Command struct {
	Path  string
	Args  []string // without the program's name
	Env   []string
	Files []*os.File
	Dir   string
	// Namespaces are CLONE_NEW flags.
	Namespaces uintptr
}

// Start starts a process of its own process group.
func (r *Reaper) Start(cmd Command) (*Child, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	defer null.Close()
	fds := []uintptr{null.Fd(), null.Fd(), null.Fd()}
	for i, f := range cmd.Files {
		fd := null.Fd()
		if f != nil {
			fd = f.Fd()
		}
		if i < len(fds) {
			fds[i] = fd
		} else {
			fds = append(fds, fd)
		}
	}
	attr := &syscall.ProcAttr{
		Dir: cmd.Dir, Env: cmd.Env, Files: fds,
		Sys: &syscall.SysProcAttr{Setpgid: true, Cloneflags: cmd.Namespaces},
	}
	// The lock keeps Run from collecting the child before it is known.
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(cmd.Path, append([]string{cmd.Path}, cmd.Args...), attr)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	child := &Child{PID: pid, done: make(chan struct{})}
	r.children[pid] = child
	return child, nil
}

// Signal sends a signal to a child unless it has ended, so that it can never hit another process with a reused id.
func (r *Reaper) Signal(c *Child, sig syscall.Signal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.children[c.PID] == c {
		_ = syscall.Kill(c.PID, sig)
	}
}

// Orphan says how a process that was not started here ended, if it is among the last that did.
func (r *Reaper) Orphan(pid int) (Exit, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.orphans) - 1; i >= 0; i-- {
		if r.orphans[i].PID == pid {
			return r.orphans[i], true
		}
	}
	return Exit{}, false
}

// Run reaps until ctx ends.
func (r *Reaper) Run(ctx context.Context) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	defer signal.Stop(ended)
	for {
		r.collect()
		select {
		case <-ended:
		case <-ctx.Done():
			return
		}
	}
}

// collect reaps everything that has ended.
func (r *Reaper) collect() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		exit := Exit{PID: pid, Status: status}
		if child, ok := r.children[pid]; ok {
			delete(r.children, pid)
			child.exit = exit
			close(child.done)
			continue
		}
		r.orphans = append(r.orphans, exit)
		if len(r.orphans) > keptOrphans {
			r.orphans = append(r.orphans[:0], r.orphans[len(r.orphans)-keptOrphans:]...)
		}
	}
}
