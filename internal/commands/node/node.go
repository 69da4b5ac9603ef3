// Package node holds the commands that take nodes out of service and back, as far as virtual machines are concerned.
package node

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"virtctl/internal/client"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
)

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Empty nodes of virtual machines, close them and open them again",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDrain(f), newCordon(f, true), newCordon(f, false))
	return cmd
}

func newCordon(f *factory.Factory, closed bool) *cobra.Command {
	use, short, done := "uncordon", "Let new machines and pods start on nodes again", "uncordoned"
	if closed {
		use, short, done = "cordon", "Let no new machine or pod start on nodes; what runs there stays", "cordoned"
	}
	return &cobra.Command{
		Use: use + " NODE...", Short: short, Args: cobra.MinimumNArgs(1),
		Example:           "  {{ProgramName}} node " + use + " node01",
		ValidArgsFunction: target.CompleteNodes(f),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.Client()
			if err != nil {
				return err
			}
			var failed []error
			for _, name := range args {
				changed, err := cordon(cmd.Context(), c, name, closed)
				switch {
				case err != nil:
					failed = append(failed, err)
				case changed:
					f.Streams.Print("node %s %s\n", name, done)
				default:
					f.Streams.Print("node %s was %s already\n", name, done)
				}
			}
			return problem.Join(f.Streams, f.Program, failed)
		},
	}
}

// cordon closes or opens a node and tells whether that changed anything.
func cordon(ctx context.Context, c *client.Client, name string, closed bool) (bool, error) {
	node, err := c.Nodes().Get(ctx, name)
	if err != nil {
		return false, fmt.Errorf("read node %s: %w", name, err)
	}
	if node.Spec.Unschedulable == closed {
		return false, nil
	}
	patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, closed)
	if _, err := c.Nodes().Patch(ctx, name, types.StrategicMergePatchType, patch); err != nil {
		return false, fmt.Errorf("change node %s: %w", name, err)
	}
	return true, nil
}

func runs(pod *corev1.Pod) bool {
	return pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed && pod.DeletionTimestamp == nil
}
