// Package objectgraph is the command that shows what a virtual machine depends on.
package objectgraph

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/output"
	"virtctl/internal/commands/target"
)

// Options are what the command line says.
type Options struct {
	VMI      bool
	Exclude  bool
	Selector map[string]string
	Output   output.Flag
}

// tree is an output format of this command alone.
const tree = "tree"

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "objectgraph NAME",
		Short: "Show the objects that a virtual machine depends on",
		Example: `  # As a tree
  {{ProgramName}} objectgraph web -o tree

  # Only what it cannot do without
  {{ProgramName}} objectgraph web --exclude-optional`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: target.CompleteOne(f, target.VM),
		RunE: func(cmd *cobra.Command, args []string) error { return Run(cmd.Context(), f, opts, args[0]) },
	}
	cmd.Flags().BoolVar(&opts.VMI, "vmi", false, "Begin at the running instance instead of the machine")
	cmd.Flags().BoolVar(&opts.Exclude, "exclude-optional", false, "Leave out what the machine can do without")
	cmd.Flags().StringToStringVar(&opts.Selector, "selector", nil, "Only objects with these labels, for example kubevirt.io/dependency-type=storage")
	opts.Output.Bind(cmd, output.JSON, output.JSON, output.YAML, output.Path, tree)
	return cmd
}

// Run asks and prints.
func Run(ctx context.Context, f *factory.Factory, opts *Options, arg string) error {
	if err := opts.Output.Check(); err != nil {
		return err
	}
	namespace, _, err := f.Namespace()
	if err != nil {
		return err
	}
	kind := target.VM
	if opts.VMI {
		kind = target.VMI
	}
	t, err := target.ParseOne(kind, namespace, arg)
	if err != nil {
		return err
	}
	c, err := f.Client()
	if err != nil {
		return err
	}
	include := !opts.Exclude
	options := kubevirtv1.ObjectGraphOptions{IncludeOptionalNodes: &include}
	if len(opts.Selector) > 0 {
		options.LabelSelector = &metav1.LabelSelector{MatchLabels: opts.Selector}
	}
	graph := &kubevirtv1.ObjectGraphNode{}
	if err := c.Ask(ctx, t, "objectgraph", options, graph); err != nil {
		return fmt.Errorf("cannot show the objects of %s %s: %w", target.Word(t), t.Name, target.Explain(ctx, c, t, err))
	}
	if opts.Output.Format == tree {
		show(f, graph, 0)
		return nil
	}
	return opts.Output.Value(f.Streams, graph)
}

func show(f *factory.Factory, node *kubevirtv1.ObjectGraphNode, depth int) {
	text := strings.Repeat("  ", depth) + node.ObjectReference.Kind + " "
	if namespace := node.ObjectReference.Namespace; namespace != nil && *namespace != "" {
		text += *namespace + "/"
	}
	text += node.ObjectReference.Name
	if node.Optional != nil && *node.Optional {
		text += " (optional)"
	}
	f.Streams.Print("%s\n", text)
	for i := range node.Children {
		show(f, &node.Children[i], depth+1)
	}
}
