package memorydump

import (
	"context"

	"github.com/spf13/cobra"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/action"
	"virtctl/internal/commands/await"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/target"
)

func newRemove(f *factory.Factory) *cobra.Command {
	flags := &action.Flags{}
	cmd := &cobra.Command{
		Use:   "remove (VM... | -l SELECTOR | --all)",
		Short: "Let go of the claim that memory was written to",
		Long:  "Let go of the claim that a machine's memory was written to. The claim and what is on it stay.",
		Example: `  # The claim is free for others
  {{ProgramName}} memory-dump remove web --wait`,
		ValidArgsFunction: target.Complete(f, target.VM),
		RunE: func(cmd *cobra.Command, args []string) error {
			return action.Run(cmd.Context(), f, remove(), flags, args)
		},
	}
	flags.BindWaiting(cmd)
	return cmd
}

func remove() action.Verb {
	say := func(text string) func(client.Target) string {
		return func(t client.Target) string { return text + " VM " + t.Name }
	}
	return action.Verb{
		Kind: target.VM, Infinitive: "remove the memory dump of",
		Request: say("Successfully submitted remove memory dump association of"),
		Outcome: say("No claim is kept for memory dumps of"),
		Do: func(ctx context.Context, c *client.Client, t client.Target) (client.Target, error) {
			return t, c.Put(ctx, t, "removememorydump", nil)
		},
		Prepare: func(context.Context, *client.Client, client.Target) (action.Wait, error) {
			return func(ctx context.Context, w *await.Waiter, t client.Target) error {
				return follow(ctx, w.Client, t, func(request *kubevirtv1.VirtualMachineMemoryDumpRequest) (bool, error) {
					return request == nil, nil
				})
			}, nil
		},
	}
}
