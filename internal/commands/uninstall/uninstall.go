// Package uninstall is the command that takes the platform out of a cluster.
package uninstall

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"virtctl/internal/commands/factory"
	installcmd "virtctl/internal/commands/install"
	"virtctl/internal/commands/problem"
	"virtctl/internal/install"
	"virtctl/internal/install/embedded"
	"virtctl/internal/version"
)

// Options are what the command line says.
type Options struct {
	DeleteVMs bool
	Wait      bool
	Timeout   time.Duration
	Embedded  bool
	Cluster   embedded.Cluster
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove the platform from the cluster",
		Long: `Remove the platform from the cluster: its components, definitions, roles and webhooks.

It refuses while virtual machines or data volumes exist, unless told to delete them. What is on the disks of both is lost then; claims that belong
to neither stay.`,
		Example: `  # Remove the platform; nothing happens while there are virtual machines or data volumes
  {{ProgramName}} uninstall

  # Remove it with every virtual machine and data volume
  {{ProgramName}} uninstall --delete-vms

  # Stop the embedded cluster of this machine and remove all it stored
  {{ProgramName}} uninstall --embedded --delete-vms`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return Run(cmd.Context(), f, opts) },
	}
	cmd.Flags().BoolVar(&opts.DeleteVMs, "delete-vms", false, "Delete all virtual machines and data volumes as well, with what is on their disks")
	cmd.Flags().BoolVar(&opts.Wait, "wait", true, "Wait until everything is gone")
	cmd.Flags().DurationVar(&opts.Timeout, "timeout", 5*time.Minute, "How long to wait")
	cmd.Flags().BoolVar(&opts.Embedded, "embedded", false, "Remove the embedded cluster of this machine with everything in it")
	cmd.Flags().StringVar(&opts.Cluster.StateDir, "state-dir", "/var/lib/virt-kube", "With --embedded: where the cluster keeps its state")
	return cmd
}

// Run removes the platform.
func Run(ctx context.Context, f *factory.Factory, opts *Options) error {
	ctx, cancel := context.WithTimeout(ctx, opts.Timeout)
	defer cancel()
	if opts.Embedded {
		return removeCluster(ctx, f, opts)
	}
	namespace, err := installcmd.PlatformNamespace(f)
	if err != nil {
		return err
	}
	config, err := f.RESTConfig()
	if err != nil {
		return err
	}
	installer, err := install.New(config, install.Options{
		Namespace: namespace, Registry: version.Registry(), Tag: version.Tag(), Wait: opts.Wait,
	})
	if err != nil {
		return err
	}
	installer.Report = func(s install.Step) {
		if s.Text != "" {
			f.Streams.Say("%s\n", s.Text)
			return
		}
		f.Streams.Say("%s %s\n", s.Object, s.Result)
	}
	err = installer.Uninstall(ctx, opts.DeleteVMs)
	if errors.Is(err, install.ErrWorkloads) {
		return problem.With(problem.Conflict, err)
	}
	if err != nil {
		return err
	}
	f.Streams.Print("virtctl uninstalled from namespace %s\n", namespace)
	return nil
}

func removeCluster(ctx context.Context, f *factory.Factory, opts *Options) error {
	if !opts.DeleteVMs {
		return problem.New(problem.Conflict, "the embedded cluster goes with every virtual machine and volume in it: confirm with --delete-vms")
	}
	opts.Cluster.Log = f.Streams.Err
	if err := opts.Cluster.Down(ctx, true); err != nil {
		return err
	}
	if err := opts.Cluster.Withdraw(); err != nil {
		return err
	}
	f.Streams.Print("embedded cluster removed\n")
	return nil
}
