// Package command is virt-kube's command line.
package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"virtctl/embedded/internal/component"
	"virtctl/embedded/internal/options"
)

// StateDirEnv names the state directory of another than the default instance, for all commands.
const StateDirEnv = "VIRT_KUBE_STATE_DIR"

// Main runs the command line and returns the exit code. The linked programs are told apart by the first argument, or by the name
// that virt-kube was called by.
func Main(args []string) int {
	if filepath.Base(args[0]) == "kubectl" {
		return kubectl(args)
	}
	if len(args) > 1 {
		switch args[1] {
		case "kubectl":
			return kubectl(args[1:])
		case ctrInside:
			return ctrMain(args[2:])
		case "ctr":
			return ctr(args[2:])
		}
		if main, ok := component.Find(args[1]); ok {
			return main(args[1:])
		}
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	root := newRoot()
	root.SetArgs(args[1:])
	if err := root.ExecuteContext(ctx); err != nil {
		var code exitCode
		if errors.As(err, &code) {
			return int(code)
		}
		fmt.Fprintf(os.Stderr, "virt-kube: %v\n", err)
		return 1
	}
	return 0
}

// exitCode ends the program with another program's exit code.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "virt-kube",
		Short: "A whole Kubernetes in one program",
		Long: `virt-kube runs Kubernetes on this machine: the control plane on the host, and one or more nodes, each in namespaces of its own.

  virt-kube up                        start it, or see that it runs
  virt-kube kubectl get nodes         use it
  virt-kube images load FILE.tar      give it images
  virt-kube down                      stop it; add --purge to remove its state too

The programs it is made of can be called as they are: virt-kube etcd, kube-apiserver, kube-controller-manager, kube-scheduler,
kubelet, kube-proxy, coredns, containerd, ctr, kubectl.`,
		SilenceUsage: true, SilenceErrors: true,
	}
	root.AddCommand(newServer(), newUp(), newDown(), newStatus(), newImages(), newNode(), newNodeInit(), newDNS(), newKubeconfig(), newVersion())
	return root
}

func defaultStateDir() string {
	if dir := os.Getenv(StateDirEnv); dir != "" {
		return dir
	}
	return options.Default().StateDir
}

// stateDirFlag adds --state-dir, by which every command finds its cluster.
func stateDirFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("state-dir", defaultStateDir(), "directory of the cluster's state, also $"+StateDirEnv)
}
