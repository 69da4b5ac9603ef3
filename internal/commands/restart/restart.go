// Package restart is the command that restarts virtual machines.
package restart

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
		Use:   "restart (VM... | -l SELECTOR | --all)",
		Short: "Stop virtual machines and start them again",
		Long: `Stop virtual machines and start them again.

The machine gets a new run with its present specification, so that changes that need a restart take effect. To let the guest's
operating system reboot within the same run, use soft-reboot; to press the reset button, use reset.`,
		Example: `  # Restart a virtual machine and wait until it runs again
  {{ProgramName}} restart web --wait

  # Restart it at once, without a shutdown of the guest
  {{ProgramName}} restart web --force --grace-period 0`,
		ValidArgsFunction: target.Complete(f, target.VM),
		RunE: func(cmd *cobra.Command, args []string) error {
			return Run(cmd.Context(), f, opts, args)
		},
	}
	opts.Bind(cmd)
	cmd.Flags().BoolVar(&opts.Force, "force", false, "Do not give the guest the time it was promised; needs --grace-period 0")
	cmd.Flags().Int64Var(&opts.GracePeriod, "grace-period", unset, "Seconds the guest gets to shut down, 0 is the only value; needs --force")
	return cmd
}

// Run restarts the machines.
func Run(ctx context.Context, f *factory.Factory, opts *Options, args []string) error {
	if opts.Force != (opts.GracePeriod != unset) {
		return problem.Usagef("--force and --grace-period go together: give both, or neither to let the guest have its time")
	}
	if opts.Force && opts.GracePeriod != 0 {
		return problem.Usagef("a forced restart knows only --grace-period 0: leave both flags out to give the guest its time")
	}
	return action.Run(ctx, f, action.Verb{
		Kind: target.VM, Infinitive: "restart",
		Request: action.Scheduled("restart"), Wish: action.WouldBe("restart"), Outcome: action.Is("running"),
		Do: func(ctx context.Context, c *client.Client, t client.Target) (client.Target, error) {
			restart := &kubevirtv1.RestartOptions{}
			if opts.Force {
				restart.GracePeriodSeconds = &opts.GracePeriod
			}
			if opts.DryRun {
				restart.DryRun = []string{metav1.DryRunAll}
			}
			return t, c.Restart(ctx, t.Namespace, t.Name, restart)
		},
		Prepare: func(ctx context.Context, c *client.Client, t client.Target) (action.Wait, error) {
			before, err := await.CurrentRun(ctx, c, t)
			if err != nil {
				return nil, err
			}
			return action.Until(await.RunningAnew(before)), nil
		},
	}, &opts.Flags, args)
}
