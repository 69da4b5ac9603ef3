// Package memorydump holds the commands that write a machine's memory to a claim.
package memorydump

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
)

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "memory-dump",
		Short: "Write a machine's memory to a claim",
		Long: `Write the memory of a running machine to a file on a claim, for crash and other tools that look into a guest's kernel.

The guest stands still while its memory is written. The claim stays the machine's, for further dumps, until "memory-dump remove".`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newGet(f), newRemove(f))
	return cmd
}

// follow waits until a machine's dump is where it is wanted. A machine without a request is judged with nil.
func follow(ctx context.Context, c *client.Client, t client.Target, judge func(*kubevirtv1.VirtualMachineMemoryDumpRequest) (bool, error)) error {
	last := "not begun"
	err := c.VMs(t.Namespace).Follow(ctx, client.Named(t.Name), func(e client.Event[kubevirtv1.VirtualMachine]) (bool, error) {
		if e.Object == nil {
			return false, nil // the end of what there was when following began
		}
		if e.Type == "DELETED" {
			return false, problem.New(problem.Hopeless, "VM %s was deleted meanwhile", t.Name)
		}
		request := e.Object.Status.MemoryDumpRequest
		if request != nil {
			last = string(request.Phase)
		}
		return judge(request)
	})
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return problem.New(problem.Timeout, "the memory dump of VM %s is not done in time: it is %s; see \"virtctl describe %s\"", t.Name, last, t.Name)
	}
	return err
}
