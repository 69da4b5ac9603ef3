// Package unfreeze is the command that thaws the file systems of guests.
package unfreeze

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
		Use:   "unfreeze (VMI... | -l SELECTOR | --all)",
		Short: "Thaw the file systems of guests",
		Example: `  # After a freeze
  {{ProgramName}} unfreeze web`,
		ValidArgsFunction: target.Complete(f, target.VMI),
		RunE:              func(cmd *cobra.Command, args []string) error { return Run(cmd.Context(), f, opts, args) },
	}
	opts.BindImmediate(cmd)
	return cmd
}

// Run thaws.
func Run(ctx context.Context, f *factory.Factory, opts *Options, args []string) error {
	return action.Run(ctx, f, action.Verb{
		Kind: target.VMI, Infinitive: "unfreeze", Request: action.Is("thawed"),
		Do: func(ctx context.Context, c *client.Client, t client.Target) (client.Target, error) {
			vmi := client.VMI(t.Namespace, t.Name)
			return vmi, c.Put(ctx, vmi, "unfreeze", nil)
		},
	}, &opts.Flags, args)
}
