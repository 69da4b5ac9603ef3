// Package stop is the command that stops virtual machines.
package stop

import (
	"context"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/action"
	"virtctl/internal/commands/await"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
)

// Options are what the command line says.
type Options struct {
	action.Flags
	Force       bool
	GracePeriod int64
}

// unset is the value of --grace-period that leaves the machine's own.
const unset = -1

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "stop (VM... | -l SELECTOR | --all)",
		Short: "Stop virtual machines",
		Long: `Stop virtual machines.

The guest is asked to shut down and gets the machine's termination grace period to do so; then it is switched off.`,
		Example: `  # Stop a virtual machine and wait until it is off
  {{ProgramName}} stop web --wait

  # Switch it off without waiting for the guest
  {{ProgramName}} stop web --force --grace-period 0`,
		ValidArgsFunction: target.Complete(f, target.VM),
		RunE: func(cmd *cobra.Command, args []string) error {
			return Run(cmd.Context(), f, opts, args)
		},
	}
	opts.Bind(cmd)
	cmd.Flags().BoolVar(&opts.Force, "force", false, "Do not give the guest the time it was promised; needs --grace-period")
	cmd.Flags().Int64Var(&opts.GracePeriod, "grace-period", unset, "Seconds the guest gets to shut down; needs --force")
	return cmd
}

// Run stops the machines.
func Run(ctx context.Context, f *factory.Factory, opts *Options, args []string) error {
	if opts.Force != (opts.GracePeriod != unset) {
		return problem.Usagef("--force and --grace-period go together: give both, or neither to let the guest have its time")
	}
	if opts.GracePeriod < unset {
		return problem.Usagef("--grace-period must not be negative")
	}
	return action.Run(ctx, f, action.Verb{
		Kind: target.VM, Infinitive: "stop",
		Request: action.Scheduled("stop"), Wish: action.WouldBe("stop"), Outcome: action.Is("stopped"),
		Do: func(ctx context.Context, c *client.Client, t client.Target) (client.Target, error) {
			stop := &kubevirtv1.StopOptions{}
			if opts.Force {
				stop.GracePeriod = &opts.GracePeriod
			}
			if opts.DryRun {
				stop.DryRun = []string{metav1.DryRunAll}
			}
			return t, c.Stop(ctx, t.Namespace, t.Name, stop)
		},
		Prepare: action.Simply(await.Stopped()),
	}, &opts.Flags, args)
}
