// Package supervise keeps programs running: it starts them, restarts the ones that die, and ends them in order.
package supervise

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Spec says what to run.
type Spec struct {
	Name string
	Path string
	Args []string
	Env  []string
	Dir  string
	// Log is appended to; it is the program's own descriptor, so that output survives the supervisor.
	Log string
	// Files become descriptors 3 and up.
	Files []*os.File
	// Cloneflags puts the program into namespaces of its own.
	Cloneflags uintptr
	// Notify gives the program a socket to report its readiness on (sd_notify); without it, started is ready.
	Notify bool
	// Cleanup, when set, runs between the program's end and its next start: cleaning up what only it could hold.
	Cleanup func()
	// Grace is the time between SIGTERM and SIGKILL; 0 is ten seconds.
	Grace time.Duration
	// Started, when set, is called with each new process id.
	Started func(pid int) error
}

// Process is one running program.
type Process interface {
	Pid() int
	Signal(syscall.Signal) error
	// Wait returns when the program has ended, with the reason unless it ended with status 0. It is called once.
	Wait() error
}

// Starter starts programs.
type Starter interface {
	Start(Spec) (Process, error)
}

// HostStarter starts programs that are killed together with this process, however it ends. The kernel ties that to the thread
// which forked, so one goroutine that keeps its thread does all the forking.
type HostStarter struct {
	once     sync.Once
	requests chan hostRequest
}

type hostRequest struct {
	cmd  *exec.Cmd
	done chan error
}

// Start implements Starter.
func (h *HostStarter) Start(s Spec) (Process, error) {
	h.once.Do(func() {
		h.requests = make(chan hostRequest)
		go func() {
			runtime.LockOSThread()
			for r := range h.requests {
				r.done <- r.cmd.Start()
			}
		}()
	})
	cmd := &exec.Cmd{
		Path: s.Path, Args: s.Args, Env: s.Env, Dir: s.Dir, ExtraFiles: s.Files,
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true, Cloneflags: s.Cloneflags},
	}
	log, err := openLog(s.Log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	r := hostRequest{cmd, make(chan error)}
	h.requests <- r
	if err := <-r.done; err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	return hostProcess{cmd}, nil
}

type hostProcess struct{ cmd *exec.Cmd }

func (p hostProcess) Pid() int { return p.cmd.Process.Pid }

func (p hostProcess) Signal(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.cmd.Path, err)
	}
	return nil
}

func (p hostProcess) Wait() error { return p.cmd.Wait() }

// logLimit is the size at which a log is set aside when its program starts.
const logLimit = 16 << 20

func openLog(path string) (*os.File, error) {
	if path == "" {
		return os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	}
	if info, err := os.Stat(path); err == nil && info.Size() > logLimit {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, fmt.Errorf("set log aside: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return f, nil
}
