package supervise

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fakeStarter hands out processes that the test ends.
type fakeStarter struct{ started chan *fakeProcess }

type fakeProcess struct {
	spec    Spec
	signals chan syscall.Signal
	end     chan error
}

func (f fakeStarter) Start(s Spec) (Process, error) {
	p := &fakeProcess{spec: s, signals: make(chan syscall.Signal, 4), end: make(chan error, 1)}
	f.started <- p
	return p, nil
}

func (p *fakeProcess) Pid() int                      { return 42 }
func (p *fakeProcess) Signal(s syscall.Signal) error { p.signals <- s; return nil }
func (p *fakeProcess) Wait() error                   { return <-p.end }

func newFakeUnit(s Spec) (*Unit, fakeStarter) {
	f := fakeStarter{make(chan *fakeProcess, 4)}
	u := NewUnit(f, s)
	u.first, u.last = time.Millisecond, time.Millisecond
	return u, f
}

// A component killed with SIGKILL must come back by itself.
func TestUnitRestarts(t *testing.T) {
	cleaned := 0
	u, f := newFakeUnit(Spec{Name: "web", Cleanup: func() { cleaned++ }})
	u.Start()
	u.Start() // a second start is not a second program
	(<-f.started).end <- errors.New("signal: killed")
	second := <-f.started
	if err := u.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := u.Status(); !s.Running || s.Restarts != 1 || s.Pid != 42 || cleaned != 1 {
		t.Errorf("status %+v, cleaned %d times", s, cleaned)
	}
	go func() {
		if sig := <-second.signals; sig != syscall.SIGTERM {
			t.Errorf("stopped with %v", sig)
		}
		second.end <- nil
	}()
	u.Stop()
	u.Stop()
	if s := u.Status(); s.Running || s.Ready {
		t.Errorf("stopped unit: %+v", s)
	}
	if len(f.started) != 0 {
		t.Error("a stopped unit was started again")
	}
	u.Start()
	third := <-f.started
	go func() { third.end <- errors.New((<-third.signals).String()) }()
	u.Kill()
}

// Readiness is what the program says, not that it started.
func TestUnitNotify(t *testing.T) {
	u, f := newFakeUnit(Spec{Name: "web", Notify: true})
	u.Start()
	p := <-f.started
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := u.WaitReady(ctx); err == nil {
		t.Fatal("ready before it said so")
	}
	address := strings.TrimPrefix(p.spec.Env[len(p.spec.Env)-1], "NOTIFY_SOCKET=")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Sendto(fd, []byte("STATUS=x\nREADY=1\n"), 0, &syscall.SockaddrUnix{Name: address}); err != nil {
		t.Fatal(err)
	}
	if err := u.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	go func() { p.end <- errors.New((<-p.signals).String()) }()
	u.Stop()
}

// Programs of the host must not outlive the supervisor: after kill -9 of it nothing may hold ports and mounts.
func TestHostStarterDiesWithParent(t *testing.T) {
	if os.Getenv("SUPERVISE_CHILD") != "" {
		u := NewUnit(&HostStarter{}, Spec{Name: "sleep", Path: "/bin/sh", Args: []string{"sh", "-c", "echo $$; exec sleep 600"}, Log: os.Getenv("SUPERVISE_CHILD")})
		u.Start()
		if err := u.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("started\n")
		select {}
	}
	log := filepath.Join(t.TempDir(), "log")
	cmd := exec.Command(os.Args[0], "-test.run=^TestHostStarterDiesWithParent$")
	cmd.Env = append(os.Environ(), "SUPERVISE_CHILD="+log)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 8)
	if _, err := out.Read(buf); err != nil || !bytes.HasPrefix(buf, []byte("started")) {
		t.Fatalf("child says %q, %v", buf, err)
	}
	children, err := os.ReadFile("/proc/" + pidString(cmd.Process.Pid) + "/task/" + pidString(cmd.Process.Pid) + "/children")
	if err != nil {
		t.Fatal(err)
	}
	tasks, err := filepath.Glob("/proc/" + pidString(cmd.Process.Pid) + "/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range tasks {
		if data, err := os.ReadFile(f); err == nil {
			children = append(children, data...)
		}
	}
	fields := strings.Fields(string(children))
	if len(fields) == 0 {
		t.Fatal("the child has no program")
	}
	pidfd := openPidfd(t, fields[0])
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	waitPidfd(t, pidfd)
}

// Process 1 of a node collects every orphan, and still learns how its own programs ended.
func TestReaper(t *testing.T) {
	r := NewReaper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go r.Run(ctx)
	for range 50 {
		p, err := r.Start(Spec{Name: "sh", Path: "/bin/sh", Args: []string{"sh", "-c", "exit 7"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(); err == nil || err.Error() != "exit status 7" {
			t.Fatalf("got %v", err)
		}
	}
	p, err := r.Start(Spec{Name: "cat", Path: "/bin/sleep", Args: []string{"sleep", "600"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Fatalf("got %v", err)
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Errorf("signal to an ended program: %v", err)
	}
}
