// Package evacuatecancel is the command that takes back the eviction of running virtual machines.
package evacuatecancel

import (
	"context"

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
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "evacuate-cancel ([vm|vmi] NAME... | -l SELECTOR | --all)",
		Short: "Take back the eviction of virtual machines from their node",
		Long: `Take back the eviction of virtual machines from their node.

An evicted machine is marked to leave its node and is migrated as soon as that is possible. This removes the mark; a migration
that has begun is cancelled with migrate-cancel. While the node is being drained the mark cannot be removed.`,
		Example: `  # By the virtual machine's name
  {{ProgramName}} evacuate-cancel vm web

  # By the machine instance's name
  {{ProgramName}} evacuate-cancel vmi web`,
		ValidArgsFunction: target.Complete(f, target.VM),
		RunE: func(cmd *cobra.Command, args []string) error {
			return Run(cmd.Context(), f, opts, args)
		},
	}
	opts.BindImmediate(cmd)
	cmd.Flags().BoolVar(&opts.DryRun, "dry-run", false, "Let the server check the request without carrying it out")
	return cmd
}

// Run sends the requests.
func Run(ctx context.Context, f *factory.Factory, opts *Options, args []string) error {
	text := func(t client.Target) string {
		return target.Word(t) + " " + t.Namespace + "/" + t.Name + " was canceled evacuation"
	}
	wish := func(t client.Target) string {
		return "the evacuation of " + target.Word(t) + " " + t.Namespace + "/" + t.Name + " would be canceled (dry run: nothing was changed)"
	}
	return action.Run(ctx, f, action.Verb{
		Kind: target.VM, Infinitive: "cancel the evacuation of", Request: text, Wish: wish,
		Do: func(ctx context.Context, c *client.Client, t client.Target) (client.Target, error) {
			vmi, err := c.VMIs(t.Namespace).Get(ctx, t.Name)
			if err != nil {
				return t, err
			}
			if vmi.Status.NodeName == "" {
				return t, problem.New(problem.Conflict, "VMI %s/%s doesn't report Node name: it is not running yet", t.Namespace, t.Name)
			}
			cancel := &kubevirtv1.EvacuateCancelOptions{EvacuationNodeName: vmi.Status.NodeName}
			if opts.DryRun {
				cancel.DryRun = []string{metav1.DryRunAll}
			}
			return t, c.Put(ctx, t, "evacuate/cancel", cancel)
		},
	}, &opts.Flags, args)
}
