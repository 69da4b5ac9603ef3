// Package start is the command that starts virtual machines.
package start

import (
	"context"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/action"
	"virtctl/internal/commands/await"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/target"
)

// Options are what the command line says.
type Options struct {
	action.Flags
	Paused bool
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "start (VM... | -l SELECTOR | --all)",
		Short: "Start virtual machines",
		Long: `Start virtual machines.

The request is taken at once; the machine runs a moment later. With --wait the command ends when the guest runs, and says why
if it does not.`,
		Example: `  # Start a virtual machine and wait until it runs
  {{ProgramName}} start web --wait

  # Start every virtual machine of a tier, two minutes at most
  {{ProgramName}} start -l tier=backend --wait --timeout 2m

  # Start with the processors stopped, to attach a debugger or the console first
  {{ProgramName}} start web --paused`,
		ValidArgsFunction: target.Complete(f, target.VM),
		RunE: func(cmd *cobra.Command, args []string) error {
			return Run(cmd.Context(), f, opts, args)
		},
	}
	opts.Bind(cmd)
	cmd.Flags().BoolVar(&opts.Paused, "paused", false, "Leave the machine paused after it has started")
	return cmd
}

// Run starts the machines.
func Run(ctx context.Context, f *factory.Factory, opts *Options, args []string) error {
	return action.Run(ctx, f, action.Verb{
		Kind: target.VM, Infinitive: "start",
		Request: action.Scheduled("start"), Wish: action.WouldBe("start"), Outcome: opts.outcome(),
		Do: func(ctx context.Context, c *client.Client, t client.Target) (client.Target, error) {
			start := &kubevirtv1.StartOptions{Paused: opts.Paused}
			if opts.DryRun {
				start.DryRun = []string{metav1.DryRunAll}
			}
			return t, c.Start(ctx, t.Namespace, t.Name, start)
		},
		Prepare: opts.prepare,
	}, &opts.Flags, args)
}

func (o *Options) outcome() func(client.Target) string {
	if o.Paused {
		return action.Is("paused")
	}
	return action.Is("running")
}

// prepare looks at the run before, so that a finished one is not taken for the new one.
func (o *Options) prepare(ctx context.Context, c *client.Client, t client.Target) (action.Wait, error) {
	if o.Paused {
		return action.Until(await.Paused()), nil
	}
	before, err := await.CurrentRun(ctx, c, t)
	if err != nil {
		return nil, err
	}
	goal := await.RunningAnew(before)
	goal.Name = "running"
	return action.Until(goal), nil
}
