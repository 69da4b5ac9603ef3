package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"virtctl/embedded/internal/network"
	"virtctl/embedded/internal/options"
)

// ErrNotRoot refuses what only root can do.
var ErrNotRoot = errors.New("not root: nodes need namespaces, mounts and links; run it with sudo")

// Up starts a server in the background, unless one runs, and waits until its cluster is ready.
func Up(ctx context.Context, o options.Options, out io.Writer) error {
	began := time.Now()
	client := NewClient(o)
	report := func(e Event) {
		if e.Step != "" {
			fmt.Fprintf(out, "  ✓ %s (%.1fs)\n", e.Step, e.Took.Seconds())
		}
	}
	if st, err := client.Status(ctx); err == nil {
		if st.Options.Instance != o.Instance {
			return fmt.Errorf("another instance (%s) is running on %s: give this one its own --run-dir", st.Options.Instance, o.RunDir)
		}
		if st.Options != o {
			return fmt.Errorf("already running (pid %d) with other settings: stop it with 'virt-kube down' first; the state is kept", st.Pid)
		}
		if st.Ready {
			fmt.Fprintf(out, "already running (pid %d), kubeconfig %s\n", st.Pid, st.Kubeconfig)
			return nil
		}
		return client.Follow(ctx, report)
	} else if !errors.Is(err, ErrNotRunning) {
		return err
	}
	log := o.LogFile("", "server")
	if err := startServer(ctx, o, log, report); err != nil {
		return fmt.Errorf("%w\n%s", err, tail(log))
	}
	fmt.Fprintf(out, "ready after %.1fs, kubeconfig %s\n", time.Since(began).Seconds(), o.Kubeconfig())
	return nil
}

// ProgressFile is the descriptor on which a server started by Up tells of its progress.
const ProgressFile = 3

// ProgressEnv tells a server that somebody listens on ProgressFile.
const ProgressEnv = "VIRT_KUBE_PROGRESS"

func startServer(ctx context.Context, o options.Options, log string, report func(Event)) error {
	for _, dir := range []string{o.StateDir, o.LogDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	f, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer f.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe", serverArgs(o)...)
	cmd.Args[0] = "virt-kube"
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), ProgressEnv+"="+strconv.Itoa(ProgressFile))
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = f, f, []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })()
	return follow(r, report)
}

// serverArgs passes every setting on: the server must not depend on what is saved.
func serverArgs(o options.Options) []string {
	return []string{
		"server", "--instance=" + o.Instance, "--nodes=" + strconv.Itoa(o.Nodes), "--state-dir=" + o.StateDir, "--run-dir=" + o.RunDir,
		"--pod-cidr=" + o.PodCIDR, "--pod-cidr6=" + o.PodCIDR6, "--service-cidr=" + o.ServiceCIDR, "--service-cidr6=" + o.ServiceCIDR6,
		"--node-cidr=" + o.NodeCIDR, "--node-cidr6=" + o.NodeCIDR6, "--bridge=" + o.Bridge,
		"--apiserver-port=" + strconv.Itoa(o.APIServerPort), "--max-pods=" + strconv.Itoa(o.MaxPods),
		"--audit=" + strconv.FormatBool(o.Audit), "--expose=" + strconv.FormatBool(o.Expose),
	}
}

// tailSize is how much of a log an error shows.
const tailSize = 2000

func tail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	if len(data) > tailSize {
		data = data[len(data)-tailSize:]
		data = data[bytes.IndexByte(data, '\n')+1:]
	}
	return fmt.Sprintf("--- end of %s\n%s", path, strings.TrimSpace(string(data)))
}

// Down stops the server, if it runs, and removes what it or a killed one left; with purge the state too.
func Down(ctx context.Context, o options.Options, purge bool, out io.Writer) error {
	if err := NewClient(o).Stop(ctx); err != nil && !errors.Is(err, ErrNotRunning) {
		return err
	}
	lock, err := waitLock(ctx, o)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := network.Claim(o); err != nil { // ours may be the name of another by now: then nothing of it is ours
		return err
	}
	if err := errors.Join(Cleanup(o), network.Release(o)); err != nil {
		return err
	}
	if purge {
		if err := os.RemoveAll(o.StateDir); err != nil {
			return fmt.Errorf("remove state: %w", err)
		}
	}
	if err := os.RemoveAll(o.RunDir); err != nil {
		return fmt.Errorf("remove run directory: %w", err)
	}
	what := "state kept in " + o.StateDir
	if purge {
		what = "state removed"
	}
	fmt.Fprintf(out, "stopped, %s\n", what)
	return nil
}

// waitLock waits until the server has given up its lock, which is the last thing it does.
func waitLock(ctx context.Context, o options.Options) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(o.LockFile()), 0o700); err != nil {
		return nil, fmt.Errorf("make run directory: %w", err)
	}
	f, err := os.OpenFile(o.LockFile(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	locked := make(chan error, 1)
	go func() { locked <- syscall.Flock(int(f.Fd()), syscall.LOCK_EX) }()
	select {
	case err := <-locked:
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", o.LockFile(), err)
		}
		return f, nil
	case <-ctx.Done():
		return nil, errors.New("interrupted while the server is still stopping")
	}
}
