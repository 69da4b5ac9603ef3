package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"virtctl/embedded/internal/node"
	"virtctl/embedded/internal/options"
	"virtctl/embedded/internal/plan"
	"virtctl/embedded/internal/supervise"
)

// nodeUnit is a node as the host sees it: one process, which is process 1 of the node's namespaces.
type nodeUnit struct {
	unit *supervise.Unit
}

// nodeStarter gives each start of a node its own pipe, on which the node waits for its link.
type nodeStarter struct {
	inner   supervise.Starter
	prepare func() error
	attach  func(pid int) error
}

// Start implements supervise.Starter.
func (n nodeStarter) Start(spec supervise.Spec) (supervise.Process, error) {
	if err := n.prepare(); err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	defer r.Close()
	defer w.Close()
	spec.Files = []*os.File{r}
	spec.Started = nil
	p, err := n.inner.Start(spec)
	if err != nil {
		return nil, err
	}
	if err := n.attach(p.Pid()); err != nil {
		_ = p.Signal(unix.SIGKILL) // it waits on the pipe and knows nothing yet
		_ = p.Wait()
		return nil, err
	}
	return p, nil
}

func (s *Server) newNode(n plan.Node) *nodeUnit {
	o := s.options
	starter := nodeStarter{
		inner: s.starter,
		prepare: func() error {
			if err := s.clearNodeCgroup(n.Name); err != nil {
				return err
			}
			if err := os.MkdirAll(o.NodeDir(n.Name), 0o700); err != nil {
				return err
			}
			return removeFile(bootIDFile(o, n.Name)) // a killed server's
		},
		attach: func(pid int) error {
			if err := s.cgroups.Add(systemCgroup(o, n.Name), pid); err != nil {
				return err
			}
			return s.network.AttachNode(n.Name, pid)
		},
	}
	spec := supervise.Spec{
		Name: n.Name, Path: "/proc/self/exe", Args: []string{"virt-kube", NodeInit, "--state-dir", o.StateDir, "--name", n.Name},
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Dir: "/", Log: o.LogFile(n.Name, "node"), Grace: nodeGrace,
		Cleanup: func() { // what the API still says of the ended life must not count for the next
			if err := removeFile(bootIDFile(o, n.Name)); err != nil {
				slog.Warn("node ended", "node", n.Name, "err", err)
			}
		},
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWPID,
	}
	return &nodeUnit{unit: supervise.NewUnit(starter, spec)}
}

func bootIDFile(o options.Options, name string) string {
	return filepath.Join(o.NodeDir(name), node.BootIDFile)
}

// NodeInit is the hidden command that is process 1 of a node.
const NodeInit = "node-init"

// nodeGrace is longer than what a node gives its own pods.
const nodeGrace = 20 * time.Second

func systemCgroup(o options.Options, node string) string { return o.NodeCgroup(node) + "/system" }

// clearNodeCgroup removes what the node's last life left, and makes the cgroups of the next.
func (s *Server) clearNodeCgroup(node string) error {
	name := s.options.NodeCgroup(node)
	if err := s.cgroups.Kill(name); err != nil {
		return err
	}
	if err := s.cgroups.Remove(name); err != nil {
		return err
	}
	if err := s.cgroups.Make(systemCgroup(s.options, node)); err != nil {
		return err
	}
	return s.cgroups.Delegate(name)
}

// waitNodes watches until every node is ready, and gives each its pod ranges.
func (s *Server) waitNodes(ctx context.Context) error { return s.waitReady(ctx, s.options.NodeNames()) }

// waitReady watches until the named nodes are ready.
func (s *Server) waitReady(ctx context.Context, names []string) error {
	client, err := kubernetes.NewForConfig(s.config)
	if err != nil {
		return fmt.Errorf("connect to the API server: %w", err)
	}
	missing := map[string]string{}
	for _, name := range names {
		missing[name] = "has not registered"
	}
	source := cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "nodes", metav1.NamespaceAll, fields.Everything())
	_, err = watchtools.UntilWithSync(ctx, source, &corev1.Node{}, nil, func(e watch.Event) (bool, error) {
		node, ok := e.Object.(*corev1.Node)
		if !ok || missing[node.Name] == "" {
			return false, nil
		}
		if err := nodeRanges(ctx, client, node, s.plan); err != nil {
			return false, err
		}
		if missing[node.Name] = s.notReady(node); missing[node.Name] == "" {
			delete(missing, node.Name)
		}
		return len(missing) == 0, nil
	})
	if err == nil {
		return nil
	}
	var reasons []string
	for name, reason := range missing {
		o := s.options
		reasons = append(reasons, fmt.Sprintf("%s %s; see %s, %s and %s", name, reason,
			o.LogFile(name, "node"), o.LogFile(name, "kubelet"), o.LogFile(name, "containerd")))
	}
	return errors.New(strings.Join(reasons, "\n"))
}

// notReady says why a node cannot be used yet. A node of an earlier life may still be called ready until its lease ends: it counts only
// once this life's kubelet has reported.
func (s *Server) notReady(n *corev1.Node) string {
	boot, err := os.ReadFile(bootIDFile(s.options, n.Name))
	if err != nil || strings.TrimSpace(string(boot)) != n.Status.NodeInfo.BootID {
		return "has not reported since its start"
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			if c.Status == corev1.ConditionTrue {
				return ""
			}
			return "is not ready: " + c.Message
		}
	}
	return "has no ready condition"
}
