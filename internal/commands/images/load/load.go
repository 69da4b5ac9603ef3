// Package load is the command that gives nodes images without a registry.
package load

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"github.com/spf13/cobra"

	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
	"virtctl/internal/images"
	"virtctl/internal/install/embedded"
)

// Options are what the command line says.
type Options struct {
	StateDir string
	Socket   string
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "load FILE...",
		Short: "Give this machine's nodes images without a registry",
		Long: `Give this machine's nodes images without a registry: every node of the embedded cluster, or with --containerd the containerd of a node
that this machine is.`,
		Example: `  # Into the nodes of the embedded cluster
  {{ProgramName}} images load guest.tar

  # On a node of any cluster, as root
  {{ProgramName}} images load out/images/*.tar --containerd /run/containerd/containerd.sock`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return Run(cmd.Context(), f, opts, args) },
	}
	cmd.Flags().StringVar(&opts.StateDir, "state-dir", "/var/lib/virt-kube", "Where the embedded cluster keeps its state")
	cmd.Flags().StringVar(&opts.Socket, "containerd", "", "Socket of the containerd to load into, instead of the embedded cluster's")
	return cmd
}

// Run loads. Each file is looked at first: what is no image is refused before anything is changed.
func Run(ctx context.Context, f *factory.Factory, opts *Options, files []string) error {
	var refs []string
	for _, file := range files {
		archive, err := images.Read(file)
		if err != nil {
			return problem.With(problem.Usage, err)
		}
		for _, i := range archive.Images {
			refs = append(refs, i.Ref)
		}
		if err := archive.Close(); err != nil {
			return err
		}
	}
	if opts.Socket != "" {
		if err := opts.containerd(ctx, f, files); err != nil {
			return err
		}
	} else {
		cluster := embedded.Cluster{StateDir: opts.StateDir, Log: f.Streams.Err}
		if err := cluster.Load(ctx, files); err != nil {
			return err
		}
	}
	for _, ref := range refs {
		f.Streams.Print("%s loaded\n", ref)
	}
	return nil
}

// containerd imports with containerd's own client, which every node with containerd has.
func (o *Options) containerd(ctx context.Context, f *factory.Factory, files []string) error {
	program, err := exec.LookPath("ctr")
	if err != nil {
		return errors.New("ctr, containerd's client, is not in $PATH: run this on a node, or push the images to a registry with \"virtctl images push\"")
	}
	for _, file := range files {
		cmd := exec.CommandContext(ctx, program, "--address", o.Socket, "--namespace", "k8s.io", "images", "import", file)
		cmd.Stdout, cmd.Stderr = f.Streams.Err, f.Streams.Err
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("load %s into the containerd at %s: %w", file, o.Socket, err)
		}
	}
	return nil
}
