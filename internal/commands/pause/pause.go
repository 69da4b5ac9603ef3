// Package pause is the command that pauses virtual machines.
package pause

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
		Use:   "pause ([vm|vmi] NAME... | -l SELECTOR | --all)",
		Short: "Pause virtual machines",
		Long: `Pause virtual machines.

A paused guest keeps its memory and its place on the node; its processors stand still until unpause.`,
		Example: `  # A virtual machine by name
  {{ProgramName}} pause web

  # Several at once; wait until all of them are paused
  {{ProgramName}} pause web db --wait

  # A machine instance that belongs to no virtual machine
  {{ProgramName}} pause vmi testvmi`,
		ValidArgsFunction: target.Complete(f, target.VM),
		RunE: func(cmd *cobra.Command, args []string) error {
			return Run(cmd.Context(), f, opts, args)
		},
	}
	opts.Bind(cmd)
	return cmd
}

// Run pauses the machines.
func Run(ctx context.Context, f *factory.Factory, opts *Options, args []string) error {
	return action.Run(ctx, f, action.Verb{
		Kind: target.VM, Infinitive: "pause",
		Request: action.Scheduled("pause"), Wish: action.WouldBe("pause"), Outcome: action.Is("paused"),
		Do: func(ctx context.Context, c *client.Client, t client.Target) (client.Target, error) {
			pause := &kubevirtv1.PauseOptions{}
			if opts.DryRun {
				pause.DryRun = []string{metav1.DryRunAll}
			}
			// What is paused is the run, whichever of the two was named.
			return client.VMI(t.Namespace, t.Name), c.Pause(ctx, t.Namespace, t.Name, pause)
		},
		Prepare: action.Simply(await.Paused()),
	}, &opts.Flags, args)
}
