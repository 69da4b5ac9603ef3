// Package cluster starts an embedded cluster for tests and measurements, installs the platform and runs the project's programs on it.
//
// Each user gives its cluster a name and addresses of its own, so several can run beside each other.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Settings tell one cluster of this machine from another.
type Settings struct {
	// Instance is the cluster's name, also that of its directories.
	Instance string
	Nodes    int
	Port     int
	Bridge   string
	NodeCIDR, NodeCIDR6,
	PodCIDR, PodCIDR6,
	ServiceCIDR, ServiceCIDR6 string
}

// Cluster is an embedded cluster, running or not.
type Cluster struct {
	// Root is the repository, State the directory of everything the cluster stores, Tag that of the images that were built.
	Root, State, Kubeconfig, Tag string

	settings Settings
}

// New describes a cluster. It starts nothing. The repository is two directories up from the test that calls it.
func New(settings Settings) (*Cluster, error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return nil, err
	}
	tag, err := os.ReadFile(filepath.Join(root, "bin/.version"))
	if err != nil {
		return nil, fmt.Errorf("nothing is built yet: run `make build images`: %w", err)
	}
	c := &Cluster{Root: root, Tag: strings.TrimSpace(string(tag)), settings: settings}
	c.State = filepath.Join(os.TempDir(), settings.Instance)
	c.Kubeconfig = filepath.Join(c.State, "kubeconfig")
	return c, nil
}

// Up starts the nodes and waits until they are ready.
func (c *Cluster) Up() error {
	s := c.settings
	return c.Kube("up", "--instance", s.Instance, "--state-dir", c.State, "--run-dir", "/run/"+s.Instance,
		"--nodes", strconv.Itoa(s.Nodes), "--audit", "--apiserver-port", strconv.Itoa(s.Port), "--bridge", s.Bridge,
		"--node-cidr", s.NodeCIDR, "--node-cidr6", s.NodeCIDR6, "--pod-cidr", s.PodCIDR, "--pod-cidr6", s.PodCIDR6,
		"--service-cidr", s.ServiceCIDR, "--service-cidr6", s.ServiceCIDR6)
}

// Load gives every node the images that were built.
func (c *Cluster) Load() error {
	archives, err := filepath.Glob(filepath.Join(c.Root, "out/images/*.tar"))
	if err != nil {
		return err
	}
	if len(archives) == 0 {
		return errors.New("no images in out/images: run `make images`")
	}
	return c.Kube(append([]string{"images", "load", "--state-dir", c.State}, archives...)...)
}

// Install installs the platform and waits for it.
func (c *Cluster) Install() error {
	result := c.Command(context.Background(), "", "virtctl", "install", "--timeout", "3m")
	if result.Code != 0 {
		return fmt.Errorf("virtctl install: %s%s", result.Stdout, result.Stderr)
	}
	fmt.Println(strings.TrimSpace(result.Stdout))
	return nil
}

// Down stops the cluster and removes all it stored.
func (c *Cluster) Down() error { return c.Kube("down", "--state-dir", c.State, "--purge") }

// NodeCIDR is the network of the nodes; this machine has its first address.
func (c *Cluster) NodeCIDR() string { return c.settings.NodeCIDR }

// Bridge is this machine's link to the nodes' network.
func (c *Cluster) Bridge() string { return c.settings.Bridge }

// AuditLog is the file in which the API server writes every request.
func (c *Cluster) AuditLog() string { return filepath.Join(c.State, "logs/audit.log") }

// Kube runs virt-kube and shows what it prints.
func (c *Cluster) Kube(args ...string) error {
	cmd := exec.Command(filepath.Join(c.Root, "bin/virt-kube"), args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("virt-kube %s: %w", args[0], err)
	}
	return nil
}

// Program prepares one of the project's programs to run against the cluster, without the settings of whoever runs the tests.
func (c *Cluster) Program(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(c.Root, "bin", program), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig, "VIRTCTL_CONFIG=/dev/null")
	return cmd
}

// Result is what a command left.
type Result struct {
	Stdout, Stderr string
	Code           int
	Took           time.Duration
	// State has the processor time and memory the command used; nil when it could not be started.
	State *os.ProcessState
}

// Command runs one of the project's programs against the cluster, as a CI pipeline would.
func (c *Cluster) Command(ctx context.Context, stdin, program string, args ...string) Result {
	cmd := c.Program(ctx, program, args...)
	var out, err strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &err
	start := time.Now()
	runErr := cmd.Run()
	r := Result{Stdout: out.String(), Stderr: err.String(), Took: time.Since(start), State: cmd.ProcessState}
	if runErr != nil {
		r.Code = max(cmd.ProcessState.ExitCode(), 1)
	}
	return r
}
