// Package cluster runs an embedded cluster: the control plane on the host, every node in namespaces of its own.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"virtctl/embedded/internal/assets"
	"virtctl/embedded/internal/capability"
	"virtctl/embedded/internal/cgroup"
	"virtctl/embedded/internal/network"
	"virtctl/embedded/internal/options"
	"virtctl/embedded/internal/pki"
	"virtctl/embedded/internal/plan"
	"virtctl/embedded/internal/storage"
	"virtctl/embedded/internal/supervise"
)

// startTimeout bounds each step of the start; a machine that needs longer for one is stuck.
const startTimeout = 5 * time.Minute

// Server is a running cluster.
type Server struct {
	options options.Options
	plan    plan.Cluster
	network network.Host
	cgroups cgroup.Tree
	starter *supervise.HostStarter
	// mu guards the two maps, which are filled once during the start.
	mu       sync.Mutex
	units    map[string]*supervise.Unit
	nodes    map[string]*nodeUnit
	progress *Progress
	config   *rest.Config
	stop     context.CancelFunc
}

// NewServer prepares a server; nothing is started.
func NewServer(o options.Options, progress *Progress) (*Server, error) {
	c, err := plan.New(o)
	if err != nil {
		return nil, err
	}
	return &Server{
		options: o, plan: c, network: network.Host{Options: o, Plan: c}, starter: &supervise.HostStarter{},
		units: map[string]*supervise.Unit{}, nodes: map[string]*nodeUnit{}, progress: progress,
	}, nil
}

// Run starts the cluster and keeps it running until ctx ends or somebody asks it to stop. Afterwards only its state is left.
func (s *Server) Run(ctx context.Context) (err error) {
	ctx, s.stop = context.WithCancel(ctx)
	defer s.stop()
	lock, err := lockInstance(s.options)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := network.Claim(s.options); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, network.Release(s.options)) }()
	loadModules()
	if err := Cleanup(s.options); err != nil { // what a killed server left
		return err
	}
	if err := Preflight(s.options); err != nil {
		return err
	}
	control, err := s.listen()
	if err != nil {
		return err
	}
	defer control.Close()
	go s.trimLogs(ctx)
	err = s.start(ctx)
	if err == nil {
		s.progress.Ready()
		slim()
		<-ctx.Done()
		slog.Info("stopping")
	} else if ctx.Err() != nil {
		err = errors.New("stopped before it was ready")
	}
	s.progress.Fail(err)
	s.halt()
	return errors.Join(err, Cleanup(s.options))
}

// loadModules asks for what kernels often have as modules; one without modules has them built in or lacks them, and the checks say so.
func loadModules() {
	for _, m := range []string{"overlay", "br_netfilter", "loop", "nf_tables"} {
		if err := exec.Command("modprobe", "-q", m).Run(); err != nil {
			slog.Debug("modprobe", "module", m, "err", err)
		}
	}
}

// lockInstance makes sure that one server runs per run directory.
func lockInstance(o options.Options) (*os.File, error) {
	if err := os.MkdirAll(o.RunDir, 0o700); err != nil {
		return nil, fmt.Errorf("make run directory: %w", err)
	}
	f, err := os.OpenFile(o.LockFile(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another instance is running on %s: see 'virt-kube status', or give this one its own --run-dir, --state-dir, "+
				"--instance, --bridge, --apiserver-port and ranges", o.RunDir)
		}
		return nil, fmt.Errorf("lock %s: %w", o.LockFile(), err)
	}
	return f, nil
}

// step is one part of the start, with the line that tells of it.
type step struct {
	done string
	run  func(context.Context) error
}

func (s *Server) start(ctx context.Context) error {
	for _, st := range []step{
		{"configuration and certificates", s.prepare},
		{"network " + s.options.Bridge, func(context.Context) error { return s.network.Setup() }},
		{"cgroups", s.makeCgroups},
		{"volumes", func(context.Context) error { return s.volumes().AttachAll() }},
		{"etcd", func(ctx context.Context) error { return s.startUnit(ctx, unitEtcd) }},
		{"kube-apiserver", s.startAPIServer},
		{"controllers, scheduler, DNS", s.startRest},
		{"cluster objects", func(ctx context.Context) error { return applyObjects(ctx, s.config, s.plan) }},
		{"storage", func(context.Context) error { return s.startStorage(ctx) }},
		{fmt.Sprintf("%d of %d nodes ready", s.options.Nodes, s.options.Nodes), s.waitNodes},
	} {
		began := time.Now()
		limited, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not done after %s", startTimeout))
		err := st.run(limited)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", st.done, err)
		}
		s.progress.Step(st.done, time.Since(began))
	}
	return nil
}

// prepare writes everything that the components read.
func (s *Server) prepare(context.Context) error {
	o := s.options
	for _, dir := range []string{o.StateDir, o.LogDir(), o.ConfigDir(), o.EtcdDir(), o.EtcdRunDir(), o.VolumeDir(), o.PKIDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	if err := o.Save(); err != nil {
		return err
	}
	if err := assets.Extract(o.BinDir()); err != nil {
		return err
	}
	if err := pki.EnsureCluster(pki.Store{Dir: o.PKIDir()}, s.plan); err != nil {
		return err
	}
	if err := writeConfig(o, s.plan); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", o.Kubeconfig())
	if err != nil {
		return fmt.Errorf("read %s: %w", o.Kubeconfig(), err)
	}
	config.QPS = -1 // the API server's priority and fairness throttles
	config.UserAgent = "virt-kube"
	s.config = config
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, spec := range controlPlane(o, s.plan) {
		spec.Started = func(pid int) error { return s.cgroups.Add(o.CgroupRoot()+"/control-plane", pid) }
		s.units[spec.Name] = supervise.NewUnit(s.starter, spec)
	}
	for _, n := range s.plan.Nodes {
		s.nodes[n.Name] = s.newNode(n)
	}
	return nil
}

func (s *Server) makeCgroups(context.Context) error {
	tree, err := cgroup.Open()
	if err != nil {
		return err
	}
	s.cgroups = tree
	return tree.Make(s.options.CgroupRoot() + "/control-plane")
}

func (s *Server) startUnit(ctx context.Context, name string) error {
	s.units[name].Start()
	return s.units[name].WaitReady(ctx)
}

// startAPIServer also waits for what the server does after it listens: default namespaces and roles. It reports that only when asked.
func (s *Server) startAPIServer(ctx context.Context) error {
	if err := s.startUnit(ctx, unitAPIServer); err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(s.config)
	if err != nil {
		return fmt.Errorf("connect to the API server: %w", err)
	}
	var last error
	err = wait.PollUntilContextCancel(ctx, readyInterval, true, func(ctx context.Context) (bool, error) {
		_, last = client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("%w: %w; see %s", err, last, s.options.LogFile("", unitAPIServer))
	}
	return nil
}

// readyInterval is between two questions to the API server whether it is ready.
const readyInterval = 50 * time.Millisecond

func (s *Server) startRest(context.Context) error {
	for _, name := range []string{unitManager, unitScheduler, unitDNS} {
		s.units[name].Start()
	}
	for _, n := range s.nodes {
		n.unit.Start()
	}
	return nil
}

func (s *Server) volumes() storage.Volumes { return storage.Volumes{Dir: s.options.VolumeDir()} }

// startStorage runs the provisioner until ctx, which is the server's, ends.
func (s *Server) startStorage(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(s.config)
	if err != nil {
		return fmt.Errorf("connect to the API server: %w", err)
	}
	p := storage.NewProvisioner(client, s.volumes(), s.plan.Nodes[0].Name, capability.SysResource())
	go func() {
		if err := p.Run(ctx); err != nil {
			slog.Error("storage ended", "err", err)
		}
	}()
	return nil
}

// slim gives back what only the start needed, and keeps the heap small from then on: this process mostly waits.
func slim() {
	debug.SetGCPercent(25)
	debug.FreeOSMemory()
}

// halt ends everything in order: nodes first, while there is an API server to tell.
func (s *Server) halt() {
	done := make(chan struct{}, len(s.nodes))
	for _, n := range s.nodes {
		go func() {
			n.unit.Stop()
			done <- struct{}{}
		}()
	}
	for range s.nodes {
		<-done
	}
	for _, name := range []string{unitDNS, unitScheduler, unitManager, unitAPIServer, unitEtcd} {
		if u, ok := s.units[name]; ok {
			u.Stop()
		}
	}
}
