// Package get is the command that lists things.
package get

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"virtctl/internal/client"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/output"
)

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "get TYPE [NAME...]",
		Short: "List virtual machines and what belongs to them",
		RunE:  func(cmd *cobra.Command, args []string) error { return Run(cmd.Context(), f) },
	}
}

// Run lists.
func Run(ctx context.Context, f *factory.Factory) error {
	namespace, _, err := f.Namespace()
	if err != nil {
		return err
	}
	c, err := f.Client()
	if err != nil {
		return err
	}
	vms, err := c.VMs(namespace).List(ctx, client.ListOptions{})
	if err != nil {
		return err
	}
	grid := output.Grid{Head: []string{"NAME", "STATUS", "AGE"}}
	for _, vm := range vms.Items {
		grid.Rows = append(grid.Rows, []string{vm.Name, string(vm.Status.PrintableStatus), output.Age(vm.CreationTimestamp, time.Now())})
	}
	return grid.Print(f.Streams)
}
