// Package check is the command that tells whether the platform can be installed and why not.
package check

import (
	"context"

	"github.com/spf13/cobra"

	"virtctl/internal/commands/factory"
	installcmd "virtctl/internal/commands/install"
	"virtctl/internal/commands/output"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/status"
	"virtctl/internal/install"
	"virtctl/internal/version"
)

// Options are what the command line says.
type Options struct {
	Pre           bool
	KVM           bool
	Registry, Tag string
	Output        output.Flag
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the cluster before or after an installation",
		Long: `Check the cluster.

With --pre: whether the platform can be installed and VMs can run: API version, permissions, each node's container runtime,
storage classes. A tiny guest is booted with hardware virtualization on every node, from the platform's launcher image mounted as an
image volume: that is the only proof that both work. --kvm=false leaves it out, for example while the nodes cannot reach the images.
Without --pre: the same as status.`,
		Example: `  # Before installing
  {{ProgramName}} check --pre

  # Without running anything on the nodes
  {{ProgramName}} check --pre --kvm=false`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return Run(cmd.Context(), f, opts) },
	}
	cmd.Flags().BoolVar(&opts.Pre, "pre", false, "Check whether the platform can be installed")
	cmd.Flags().BoolVar(&opts.KVM, "kvm", true, "With --pre: run a tiny guest on every node")
	cmd.Flags().StringVar(&opts.Registry, "registry", version.Registry(), "Registry and path of the platform's images")
	cmd.Flags().StringVar(&opts.Tag, "tag", version.Tag(), "Tag of the platform's images")
	opts.Output.Bind(cmd, output.Table, output.Table, output.JSON, output.YAML)
	return cmd
}

// Run checks.
func Run(ctx context.Context, f *factory.Factory, opts *Options) error {
	if err := opts.Output.Check(); err != nil {
		return err
	}
	if !opts.Pre {
		return status.Run(ctx, f, &opts.Output)
	}
	namespace, err := installcmd.PlatformNamespace(f)
	if err != nil {
		return err
	}
	config, err := f.RESTConfig()
	if err != nil {
		return err
	}
	installer, err := install.New(config, install.Options{Namespace: namespace, Registry: opts.Registry, Tag: opts.Tag})
	if err != nil {
		return err
	}
	checks, err := installer.Preflight(ctx)
	if err != nil {
		return err
	}
	if opts.KVM {
		checks = append(checks, installer.ProbeNodes(ctx)...)
	}
	return show(f, opts, checks)
}

func show(f *factory.Factory, opts *Options, checks []install.Check) error {
	failed := false
	grid := output.Grid{Head: []string{"CHECK", "VERDICT", "DETAIL"}}
	for _, c := range checks {
		failed = failed || c.Verdict == install.Failed
		detail := c.Detail
		if c.Cure != "" {
			detail += ": " + c.Cure
		}
		grid.Rows = append(grid.Rows, []string{c.Name, string(c.Verdict), detail})
	}
	var err error
	if opts.Output.IsTable() {
		err = grid.Print(f.Streams)
	} else {
		err = opts.Output.Value(f.Streams, checks)
	}
	if err == nil && failed {
		return problem.Silent(problem.Failure)
	}
	return err
}
