// Package reset is the command that resets the guests of virtual machines.
package reset

import (
	"context"

	"github.com/spf13/cobra"

	"virtctl/internal/client"
	"virtctl/internal/commands/action"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/target"
)

// Options are what the command line says.
type Options struct {
	action.Flags
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "reset (VMI... | -l SELECTOR | --all)",
		Short: "Press the reset button of virtual machines",
		Long: `Press the reset button of virtual machines.

The guest begins anew at its firmware, in the same run and without a shutdown: unsaved data in the guest is lost.`,
		Example: `  # One machine
  {{ProgramName}} reset web

  # Until the guest's agent has gone and come back
  {{ProgramName}} reset web --wait --timeout 2m

  # All machines of a tier
  {{ProgramName}} reset -l tier=backend`,
		ValidArgsFunction: target.Complete(f, target.VMI),
		RunE: func(cmd *cobra.Command, args []string) error {
			return Run(cmd.Context(), f, opts, args)
		},
	}
	opts.Bind(cmd)
	return cmd
}

// Run sends the requests.
func Run(ctx context.Context, f *factory.Factory, opts *Options, args []string) error {
	return action.Run(ctx, f, action.Verb{
		Kind: target.VMI, Infinitive: "reset", Request: action.Scheduled("reset"),
		Wish: action.WouldBe("reset"), Outcome: action.Is("running again"), Prepare: action.Back,
		Do: func(ctx context.Context, c *client.Client, t client.Target) (client.Target, error) {
			vmi := client.VMI(t.Namespace, t.Name)
			if opts.DryRun {
				return vmi, action.MustRun(ctx, c, vmi)
			}
			return vmi, c.Put(ctx, vmi, "reset", nil)
		},
	}, &opts.Flags, args)
}
