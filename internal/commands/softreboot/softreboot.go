// Package softreboot is the command that reboots the guests of virtual machines.
package softreboot

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
		Use:   "soft-reboot (VMI... | -l SELECTOR | --all)",
		Short: "Ask guests to reboot",
		Long: `Ask guests to reboot.

The guest's operating system shuts down and starts again within the same run. It needs the guest agent or ACPI in the guest.`,
		Example: `  # One machine
  {{ProgramName}} soft-reboot web

  # Until the guest's agent has gone and come back
  {{ProgramName}} soft-reboot web --wait --timeout 2m

  # All machines of a tier
  {{ProgramName}} soft-reboot -l tier=backend`,
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
		Kind: target.VMI, Infinitive: "soft-reboot", Request: action.Scheduled("soft-reboot"),
		Wish: action.WouldBe("soft-reboot"), Outcome: action.Is("running again"), Prepare: action.Back,
		Do: func(ctx context.Context, c *client.Client, t client.Target) (client.Target, error) {
			vmi := client.VMI(t.Namespace, t.Name)
			if opts.DryRun {
				return vmi, action.MustRun(ctx, c, vmi)
			}
			return vmi, c.Put(ctx, vmi, "softreboot", nil)
		},
	}, &opts.Flags, args)
}
