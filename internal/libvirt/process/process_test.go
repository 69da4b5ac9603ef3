package process

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const patience = 20 * time.Second

func running(t *testing.T) *Reaper {
	t.Helper()
	r := NewReaper()
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() { defer close(stopped); r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-stopped })
	return r
}

func ended(t *testing.T, c *Child) Exit {
	t.Helper()
	select {
	case <-c.Done():
		return c.Exit()
	case <-time.After(patience):
		t.Fatal("the process does not end")
		return Exit{}
	}
}

func TestChildrenEndWithTheirStatus(t *testing.T) {
	r := running(t)
	for script, want := range map[string]string{"exit 3": "exited with code 3", "kill -9 $$": "was killed by signal 9 (killed)"} {
		c, err := r.Start(Command{Path: "/bin/sh", Args: []string{"-c", script}})
		if err != nil {
			t.Fatal(err)
		}
		if got := ended(t, c).String(); got != want {
			t.Errorf("%s: %s", script, got)
		}
	}
	if _, err := r.Start(Command{Path: "/nothing"}); err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a program that is not there: %v", err)
	}
}

func TestSignalsReachTheChildOnly(t *testing.T) {
	r := running(t)
	c, err := r.Start(Command{Path: "/bin/sh", Args: []string{"-c", "exec sleep 1000"}})
	if err != nil {
		t.Fatal(err)
	}
	r.Signal(c, syscall.SIGTERM)
	if exit := ended(t, c); exit.Status.Signal() != syscall.SIGTERM {
		t.Error(exit)
	}
	r.Signal(c, syscall.SIGKILL) // its id may be another's by now: nothing must happen
}

// As PID 1 the launcher inherits QEMU, which libvirt detaches from itself.
func TestOrphansAreReapedAndRemembered(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	r := running(t)
	dir := t.TempDir()
	gate, pid := filepath.Join(dir, "gate"), filepath.Join(dir, "pid")
	if err := unix.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := r.Start(Command{Path: "/bin/sh", Args: []string{"-c", `(sh -c 'echo $$ > "$1.new"; mv "$1.new" "$1"; read x < "$0"; exit 7' "$0" "$1") & exit 0`, gate, pid}})
	if err != nil {
		t.Fatal(err)
	}
	ended(t, c)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := WaitForPath(ctx, pid); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	orphan, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(orphan, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := os.WriteFile(gate, []byte("go\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds())); err != nil {
		t.Fatal(err)
	}
	r.collect()
	if exit, ok := r.Orphan(orphan); !ok || exit.Status.ExitStatus() != 7 {
		t.Fatalf("%v, %v", exit, ok)
	}
	if _, ok := r.Orphan(1); ok {
		t.Error("PID 1 has ended?")
	}
}

func TestWaitForPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	found := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	go func() { found <- WaitForPath(ctx, path) }()
	for _, name := range []string{path + ".new", path} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-found; err != nil {
		t.Fatal(err)
	}
	short, stop := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer stop()
	if err := WaitForPath(short, path+".never"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if err := WaitForPath(ctx, "/nothing/here"); err == nil {
		t.Fatal("a directory that is not there")
	}
}

// Kubelet puts new files into a projected volume by renaming a link.
func TestWatchProjected(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir()}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	changed, ended := make(chan struct{}, 16), make(chan error, 1)
	go func() { ended <- WatchProjected(ctx, dirs, func() { changed <- struct{}{} }) }()
	next := func(what string) {
		t.Helper()
		select {
		case <-changed:
		case err := <-ended:
			t.Fatalf("%s: the watch ended: %v", what, err)
		}
	}
	next("the watch begins")
	for _, dir := range dirs {
		if err := os.Symlink("..1", filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
		next(dir)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := WatchProjected(context.Background(), []string{dirs[0] + "/missing"}, func() {}); err == nil {
		t.Fatal("a volume that is not there is watched")
	}
}
