// Package migrate is the command that moves running virtual machines to other nodes.
package migrate

import (
	"context"
	"maps"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
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
	NodeSelector map[string]string
	ToNode       string
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "migrate (VM... | -l SELECTOR | --all)",
		Short: "Move running virtual machines to other nodes",
		Long: `Move running virtual machines to other nodes without stopping them.

The scheduler chooses the node unless --to-node or --addedNodeSelector narrows the choice. With --wait the command ends when the
machine runs on its new node, and tells meanwhile how far it is: what has been sent, what remains, how fast the guest changes its
memory, and at the end how long the guest stood still.

With --dry-run nothing moves: the command lists everything that keeps the machine where it is, each with its cure, and which nodes
could take it. It ends with code 5 if the machine cannot move.`,
		Example: `  # Move a machine away from where it is
  {{ProgramName}} migrate web --wait

  # Could it move, and where to?
  {{ProgramName}} migrate web --dry-run

  # Move it to a node of your choice
  {{ProgramName}} migrate web --to-node node02 --wait

  # Only nodes with this label
  {{ProgramName}} migrate web --addedNodeSelector zone=b`,
		ValidArgsFunction: target.Complete(f, target.VM),
		RunE: func(cmd *cobra.Command, args []string) error {
			return Run(cmd.Context(), f, opts, args)
		},
	}
	opts.Bind(cmd)
	flags := cmd.Flags()
	flags.StringToStringVar(&opts.NodeSelector, "addedNodeSelector", nil, "Labels the new node must have besides those the machine asks for: KEY=VALUE,...")
	flags.StringVar(&opts.ToNode, "to-node", "", "Name of the new node")
	flags.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "added-node-selector" {
			name = "addedNodeSelector"
		}
		return pflag.NormalizedName(name)
	})
	_ = cmd.RegisterFlagCompletionFunc("to-node", target.CompleteNodes(f))
	return cmd
}

// Run sends the requests, or with --dry-run explains them.
func Run(ctx context.Context, f *factory.Factory, opts *Options, args []string) error {
	selector := maps.Clone(opts.NodeSelector)
	if opts.ToNode != "" {
		if selector == nil {
			selector = map[string]string{}
		}
		if _, twice := selector[corev1.LabelHostname]; twice {
			return problem.Usagef("--to-node and a %s in --addedNodeSelector exclude each other", corev1.LabelHostname)
		}
		selector[corev1.LabelHostname] = opts.ToNode
	}
	if opts.DryRun {
		return explain(ctx, f, opts, selector, args)
	}
	show := newScreen(f.Streams, opts.Output.IsTable())
	return action.Run(ctx, f, action.Verb{
		Kind: target.VM, Infinitive: "migrate",
		Request: action.Scheduled("migrate"), Wish: action.WouldBe("migrate"), Outcome: show.outcome, Object: show.object,
		Do: func(ctx context.Context, c *client.Client, t client.Target) (client.Target, error) {
			if err := possible(ctx, c, t, opts.ToNode); err != nil {
				return t, err
			}
			return t, c.Migrate(ctx, t.Namespace, t.Name, &kubevirtv1.MigrateOptions{AddedNodeSelector: selector})
		},
		Prepare: func(ctx context.Context, c *client.Client, t client.Target) (action.Wait, error) {
			known, err := await.KnownMigrations(ctx, c, t)
			if err != nil {
				return nil, err
			}
			return func(ctx context.Context, w *await.Waiter, t client.Target) error {
				m, err := w.Migrated(ctx, t, known, show.told(t))
				show.ended(ctx, c, t, m)
				return err
			}, nil
		},
	}, &opts.Flags, args)
}
