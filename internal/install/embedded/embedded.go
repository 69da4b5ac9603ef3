// Package embedded drives virt-kube, the Kubernetes that comes with virtctl, on this machine.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Context is the name of the kubeconfig context of the embedded cluster.
const Context = "virtctl-embedded"

// Cluster is the embedded cluster of this machine.
type Cluster struct {
	// Program is virt-kube; empty looks beside this program and in $PATH.
	Program  string
	StateDir string
	Nodes    int
	// Log is where virt-kube talks to.
	Log io.Writer
}

// Kubeconfig is the cluster's own kubeconfig file.
func (c Cluster) Kubeconfig() string { return filepath.Join(c.StateDir, "kubeconfig") }

// Up starts the cluster, or finds it running, and returns when its nodes are ready.
func (c Cluster) Up(ctx context.Context) error {
	return c.run(ctx, "up", "--state-dir", c.StateDir, "--nodes", strconv.Itoa(c.Nodes))
}

// Down stops the cluster; purge also removes everything it stored.
func (c Cluster) Down(ctx context.Context, purge bool) error {
	args := []string{"down", "--state-dir", c.StateDir}
	if purge {
		args = append(args, "--purge")
	}
	return c.run(ctx, args...)
}

// Load brings image archives onto every node.
func (c Cluster) Load(ctx context.Context, archives []string) error {
	return c.run(ctx, append([]string{"images", "load", "--state-dir", c.StateDir}, archives...)...)
}

func (c Cluster) run(ctx context.Context, args ...string) error {
	program, err := c.find()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = c.Log, c.Log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("virt-kube %s: %w", args[0], err)
	}
	return nil
}

func (c Cluster) find() (string, error) {
	if c.Program != "" {
		return c.Program, nil
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "virt-kube")
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	path, err := exec.LookPath("virt-kube")
	if errors.Is(err, exec.ErrNotFound) {
		return "", errors.New("virt-kube is neither beside virtctl nor in $PATH: build it with `make virt-kube`, or leave out --embedded to use a cluster you have")
	}
	return path, err
}

// Publish makes the cluster reachable by its context in the user's kubeconfig, as the current context if there is none yet.
func (c Cluster) Publish() error {
	own, err := clientcmd.LoadFromFile(c.Kubeconfig())
	if err != nil {
		return fmt.Errorf("read the embedded cluster's kubeconfig: %w", err)
	}
	at, ok := own.Contexts[own.CurrentContext]
	if !ok || own.Clusters[at.Cluster] == nil || own.AuthInfos[at.AuthInfo] == nil {
		return fmt.Errorf("%s has no current context: start the cluster again with `virt-kube up`", c.Kubeconfig())
	}
	cluster, user := own.Clusters[at.Cluster].DeepCopy(), own.AuthInfos[at.AuthInfo].DeepCopy()
	// What keeps its origin would be written there, and not for the user.
	cluster.LocationOfOrigin, user.LocationOfOrigin = "", ""
	return edit(func(config *clientcmdapi.Config) {
		// All three have the context's name: a user may have an "admin" of his own.
		config.Clusters[Context], config.AuthInfos[Context] = cluster, user
		config.Contexts[Context] = &clientcmdapi.Context{Cluster: Context, AuthInfo: Context}
		if _, ok := config.Contexts[config.CurrentContext]; !ok {
			config.CurrentContext = Context
		}
	})
}

// Withdraw takes the context out of the user's kubeconfig again.
func (c Cluster) Withdraw() error {
	return edit(func(config *clientcmdapi.Config) {
		delete(config.Contexts, Context)
		delete(config.Clusters, Context)
		delete(config.AuthInfos, Context)
		if config.CurrentContext == Context {
			config.CurrentContext = ""
		}
	})
}

func edit(change func(*clientcmdapi.Config)) error {
	access := clientcmd.NewDefaultPathOptions()
	config, err := access.GetStartingConfig()
	if err != nil {
		return fmt.Errorf("read your kubeconfig: %w", err)
	}
	change(config)
	if err := clientcmd.ModifyConfig(access, *config, true); err != nil {
		return fmt.Errorf("write your kubeconfig: %w", err)
	}
	return nil
}
