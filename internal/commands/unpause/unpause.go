// Package unpause is the command that unpauses virtual machines.
package unpause

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
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "unpause ([vm|vmi] NAME... | -l SELECTOR | --all)",
		Short: "Let paused virtual machines go on",
		Long: `Let paused virtual machines go on.

The guest goes on where it stood; its clock is as late as the pause was long.`,
		Example: `  # A virtual machine by name
  {{ProgramName}} unpause web

  # Several at once; wait until all of them are running
  {{ProgramName}} unpause web db --wait

  # A machine instance that belongs to no virtual machine
  {{ProgramName}} unpause vmi testvmi`,
		ValidArgsFunction: target.Complete(f, target.VM),
		RunE: func(cmd *cobra.Command, args []string) error {
			return Run(cmd.Context(), f, opts, args)
		},
	}
	opts.Bind(cmd)
	return cmd
}

// Run unpauses the machines.
func Run(ctx context.Context, f *factory.Factory, opts *Options, args []string) error {
	return action.Run(ctx, f, action.Verb{
		Kind: target.VM, Infinitive: "unpause",
		Request: action.Scheduled("unpause"), Wish: action.WouldBe("unpause"), Outcome: action.Is("running"),
		Do: func(ctx context.Context, c *client.Client, t client.Target) (client.Target, error) {
			unpause := &kubevirtv1.UnpauseOptions{}
			if opts.DryRun {
				unpause.DryRun = []string{metav1.DryRunAll}
			}
			// What is unpaused is the run, whichever of the two was named.
			return client.VMI(t.Namespace, t.Name), c.Unpause(ctx, t.Namespace, t.Name, unpause)
		},
		Prepare: action.Simply(await.Unpaused()),
	}, &opts.Flags, args)
}
