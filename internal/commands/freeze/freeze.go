// Package freeze is the command that freezes the file systems of guests.
package freeze

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/action"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
)

// Options are what the command line says.
type Options struct {
	action.Flags
	Unfreeze time.Duration
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "freeze (VMI... | -l SELECTOR | --all)",
		Short: "Freeze the file systems of guests",
		Long: `Freeze the file systems of guests, so that what is on their disks is consistent: for a copy made by the storage itself.

It needs the guest agent. The guest thaws by itself after a time, so that a forgotten freeze does no harm; unfreeze thaws at once.`,
		Example: `  # For a minute at most
  {{ProgramName}} freeze web --unfreeze-timeout 1m`,
		ValidArgsFunction: target.Complete(f, target.VMI),
		RunE:              func(cmd *cobra.Command, args []string) error { return Run(cmd.Context(), f, opts, args) },
	}
	opts.BindImmediate(cmd)
	cmd.Flags().DurationVar(&opts.Unfreeze, "unfreeze-timeout", 5*time.Minute, "When the guest thaws by itself; 0 is never")
	return cmd
}

// Run freezes.
func Run(ctx context.Context, f *factory.Factory, opts *Options, args []string) error {
	if opts.Unfreeze < 0 {
		return problem.Usagef("--unfreeze-timeout must not be negative")
	}
	return action.Run(ctx, f, action.Verb{
		Kind: target.VMI, Infinitive: "freeze", Request: action.Is("frozen"),
		Do: func(ctx context.Context, c *client.Client, t client.Target) (client.Target, error) {
			vmi := client.VMI(t.Namespace, t.Name)
			return vmi, c.Put(ctx, vmi, "freeze", &kubevirtv1.FreezeUnfreezeTimeout{UnfreezeTimeout: &metav1.Duration{Duration: opts.Unfreeze}})
		},
	}, &opts.Flags, args)
}
