package supervise

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// Reaper starts programs as process 1 of a PID namespace: it also collects the orphans that are handed to it (containerd's shims
// and whatever a container leaves), so nothing else in the process may wait for children.
type Reaper struct {
	mu      sync.Mutex
	waiting map[int]chan syscall.WaitStatus
}

// NewReaper returns a Reaper whose Run has to be running.
func NewReaper() *Reaper { return &Reaper{waiting: map[int]chan syscall.WaitStatus{}} }

// Run collects ended children until ctx ends.
func (r *Reaper) Run(ctx context.Context) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	defer signal.Stop(ended)
	for {
		r.collect()
		select {
		case <-ctx.Done():
			return
		case <-ended:
		}
	}
}

func (r *Reaper) collect() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if ch, ok := r.waiting[pid]; ok {
			ch <- status
			delete(r.waiting, pid)
		}
	}
}

// Start implements Starter. The lock is held across the fork, so that even a program that ends at once is known by its id.
func (r *Reaper) Start(s Spec) (Process, error) {
	log, err := openLog(s.Log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	defer null.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := os.StartProcess(s.Path, s.Args, &os.ProcAttr{
		Dir: s.Dir, Env: s.Env, Files: append([]*os.File{null, log, log}, s.Files...),
		Sys: &syscall.SysProcAttr{Setsid: true, Cloneflags: s.Cloneflags},
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	ended := make(chan syscall.WaitStatus, 1)
	r.waiting[p.Pid] = ended
	return &reapedProcess{pid: p.Pid, ended: ended, reaper: r}, p.Release()
}

type reapedProcess struct {
	pid    int
	ended  chan syscall.WaitStatus
	reaper *Reaper
}

func (p *reapedProcess) Pid() int { return p.pid }

// Signal holds the lock, so that the id cannot have been given to another process meanwhile.
func (p *reapedProcess) Signal(sig syscall.Signal) error {
	p.reaper.mu.Lock()
	defer p.reaper.mu.Unlock()
	if _, running := p.reaper.waiting[p.pid]; !running {
		return nil
	}
	return syscall.Kill(p.pid, sig)
}

func (p *reapedProcess) Wait() error {
	status := <-p.ended
	switch {
	case status.Signaled():
		return fmt.Errorf("signal: %s", status.Signal())
	case status.ExitStatus() != 0:
		return fmt.Errorf("exit status %d", status.ExitStatus())
	}
	return nil
}
