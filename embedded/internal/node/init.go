// Package node is a node of the cluster: process 1 of its namespaces, which mounts its file systems, configures its network and
// keeps containerd, kubelet and kube-proxy running.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"virtctl/embedded/internal/cgroup"
	"virtctl/embedded/internal/images"
	"virtctl/embedded/internal/network"
	"virtctl/embedded/internal/options"
	"virtctl/embedded/internal/plan"
	"virtctl/embedded/internal/render"
	"virtctl/embedded/internal/supervise"
)

// GoFile is the descriptor whose end of file tells a node that its link and cgroups are there.
const GoFile = 3

const (
	// startTimeout bounds the start of containerd, which on a slow disk has to read its whole database.
	startTimeout = 5 * time.Minute
	// shutdownGrace is how long the pods of a node that is stopped may take.
	shutdownGrace = 10 * time.Second
)

// Run is the life of process 1 of a node. It returns when the node has been told to stop; the kernel ends whatever is left.
func Run(ctx context.Context, o options.Options, name string) error {
	if os.Getpid() != 1 {
		return errors.New("a node runs in namespaces of its own: use 'virt-kube up'")
	}
	ctx, cancel := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	if err := waitForGo(); err != nil {
		return err
	}
	c, err := plan.New(o)
	if err != nil {
		return err
	}
	n, err := c.Node(name)
	if err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	if err := setupMounts(o, c, name); err != nil {
		return err
	}
	if err := network.ConfigureNode(c, n); err != nil {
		return err
	}
	if err := writeConfig(o, c, n); err != nil {
		return err
	}
	return serve(ctx, o, n)
}

// waitForGo waits until the server has closed its end of the pipe.
func waitForGo() error {
	f := os.NewFile(GoFile, "go")
	defer f.Close()
	if _, err := io.Copy(io.Discard, f); err != nil {
		return fmt.Errorf("wait for the server: %w", err)
	}
	return nil
}

func serve(ctx context.Context, o options.Options, n plan.Node) error {
	reaper := supervise.NewReaper()
	go reaper.Run(context.WithoutCancel(ctx))
	units := newUnits(o, n, reaper)
	units.containerd.Start()
	started, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := units.containerd.WaitReady(started); err != nil {
		return err
	}
	store, err := images.Open(render.ContainerdSocket)
	if err != nil {
		return err
	}
	err = store.EnsurePause(started)
	_ = store.Close()
	if err != nil {
		return err
	}
	units.kubelet.Start()
	units.proxy.Start()
	slog.Info("node started", "node", n.Name)
	debug.SetGCPercent(25) // from here on this process mostly waits
	debug.FreeOSMemory()
	<-ctx.Done()
	slog.Info("node stops", "node", n.Name)
	units.kubelet.Stop()
	units.proxy.Stop()
	tree, err := cgroup.Open()
	if err != nil {
		return err
	}
	return tree.Terminate(o.NodeCgroup(n.Name)+"/kubepods", shutdownGrace)
}

type nodeUnits struct{ containerd, kubelet, proxy *supervise.Unit }

func newUnits(o options.Options, n plan.Node, starter supervise.Starter) nodeUnits {
	dir := configDir(o, n.Name)
	unit := func(name string, env []string, args ...string) *supervise.Unit {
		return supervise.NewUnit(starter, supervise.Spec{
			Name: name, Path: "/proc/self/exe", Args: append([]string{"virt-kube", name}, args...),
			Env: append(environment(o), env...), Dir: "/", Log: o.LogFile(n.Name, name), Notify: name == "containerd",
		})
	}
	ips := make([]string, len(n.IPs))
	for i, p := range n.IPs {
		ips[i] = p.Addr().String()
	}
	return nodeUnits{
		containerd: unit("containerd", []string{"GOGC=50"}, "--config", filepath.Join(dir, "containerd.toml")),
		kubelet: unit("kubelet", []string{"GOGC=50"},
			"--config", filepath.Join(dir, "kubelet.yaml"),
			"--kubeconfig", filepath.Join(dir, "kubelet.kubeconfig"),
			"--hostname-override", n.Name,
			"--node-ip", strings.Join(ips, ","),
			"--root-dir", render.KubeletRoot,
			"--v", "2",
		),
		proxy: unit("kube-proxy", []string{"GOGC=50"}, "--config", filepath.Join(dir, "kube-proxy.yaml"), "--v", "1"),
	}
}

// environment is what a node's programs see: the carried programs come first in the path.
func environment(o options.Options) []string {
	return []string{
		"PATH=" + o.BinDir() + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "TMPDIR=/tmp",
	}
}
