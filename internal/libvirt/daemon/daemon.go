package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"virtctl/internal/libvirt/process"
)

// startTimeout is how long the daemon may take until its socket listens. It takes 50 ms on an idle machine.
const startTimeout = 60 * time.Second

// Daemon is one run of the daemon.
type Daemon struct {
	// Socket is the daemon's unix socket; it listens.
	Socket string
	reaper *process.Reaper
	child  *process.Child
}

// Options say how to run the daemon.
type Options struct {
	Dirs   Dirs
	Reaper *process.Reaper
	// Stderr takes the daemon's warnings.
	Stderr io.Writer
	// LogFilters, if any, are libvirt's log_filters: every message that passes them is written, as JSON.
	LogFilters string
}

// Start starts the daemon and returns once its socket listens.
func Start(ctx context.Context, opts Options) (*Daemon, error) {
	p, err := findProgram()
	if err != nil {
		return nil, err
	}
	conf, err := writeConfig(opts.Dirs, p, opts.LogFilters)
	if err != nil {
		return nil, err
	}
	run := filepath.Join(opts.Dirs.Runtime, "libvirt")
	d := &Daemon{Socket: filepath.Join(run, p.socket), reaper: opts.Reaper}
	admin := filepath.Join(run, p.admin)
	for _, stale := range []string{d.Socket, admin} {
		if err := os.Remove(stale); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("remove a stale socket: %w", err)
		}
	}
	messages, stderr, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start libvirt: %w", err)
	}
	d.child, err = opts.Reaper.Start(process.Command{
		Path: p.path, Args: []string{"--config", conf}, Env: environment(opts.Dirs),
		Files: []*os.File{nil, stderr, stderr}, Dir: opts.Dirs.Home,
	})
	_ = stderr.Close()
	if err != nil {
		_ = messages.Close()
		return nil, err
	}
	go func() {
		defer messages.Close()
		say := warn
		if opts.LogFilters != "" {
			say = tell
		}
		copyMessages(opts.Stderr, messages, say)
	}()
	// The administration socket is bound after the main one listens: its appearance means that we can connect.
	if err := d.await(ctx, admin); err != nil {
		d.Kill()
		return nil, err
	}
	return d, nil
}

func (d *Daemon) await(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	appeared := make(chan error, 1)
	go func() { appeared <- process.WaitForPath(ctx, path) }()
	select {
	case err := <-appeared:
		if err != nil {
			return fmt.Errorf("start libvirt: %w", err)
		}
		return nil
	case <-d.child.Done():
		return fmt.Errorf("start libvirt: the daemon %s; see its messages above", d.child.Exit())
	}
}

// Done is closed when the daemon has ended.
func (d *Daemon) Done() <-chan struct{} { return d.child.Done() }

// Exit says how it ended; only meaningful once Done is closed.
func (d *Daemon) Exit() process.Exit { return d.child.Exit() }

// PID is the daemon's process id.
func (d *Daemon) PID() int { return d.child.PID }

// Stop ends the daemon in good order. Running QEMUs stay.
func (d *Daemon) Stop() { d.reaper.Signal(d.child, syscall.SIGTERM) }

// Kill ends the daemon at once.
func (d *Daemon) Kill() { d.reaper.Signal(d.child, syscall.SIGKILL) }
