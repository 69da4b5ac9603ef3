// Package wait is the command that waits for virtual machines to reach a state.
package wait

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/action"
	"virtctl/internal/commands/await"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/output"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
	"virtctl/internal/commands/volume"
)

// Options are what the command line says.
type Options struct {
	Selection target.Selection
	Output    output.Flag
	For       string
	Timeout   time.Duration
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "wait ([vm|vmi|dv|pvc] NAME... | -l SELECTOR | --all) [--for STATE]",
		Short: "Wait until virtual machines or disks have reached a state",
		Long: `Wait until virtual machines or disks have reached a state, and say why if they do not.

States:
  running              the guest runs
  ready                the guest runs and passes its readiness probe
  stopped              the machine exists and does not run
  paused               the guest's processors stand still
  agent                the guest agent has connected
  ip                   the guest has an address
  deleted              nothing is left of the machine
  condition=TYPE[=STATUS]  a condition of the machine or of its run has the status, True if none is given

A disk (dv/NAME) is ready when it is filled; uploadready is when it waits for an upload, deleted when nothing is left of it.`,
		Example: `  # Until the guest agent of web answers
  {{ProgramName}} wait web --for agent --timeout 2m

  # Until all machines of a tier are ready
  {{ProgramName}} wait -l tier=backend --for ready

  # Until the disk is filled
  {{ProgramName}} wait dv/fedora --timeout 30m

  # Until a change that needs a restart has been made
  {{ProgramName}} wait web --for condition=RestartRequired`,
		ValidArgsFunction: target.Complete(f, target.VM),
		RunE: func(cmd *cobra.Command, args []string) error {
			return Run(cmd.Context(), f, opts, args)
		},
	}
	opts.Selection.Bind(cmd.Flags())
	opts.Output.Bind(cmd, "", output.Name, output.JSON, output.YAML)
	cmd.Flags().StringVar(&opts.For, "for", "ready", "State to wait for")
	cmd.Flags().DurationVar(&opts.Timeout, "timeout", 5*time.Minute, "How long to wait at most; 0 waits for ever")
	_ = cmd.RegisterFlagCompletionFunc("for", cobra.FixedCompletions(
		[]string{"running", "ready", "stopped", "paused", "agent", "ip", "deleted", "condition="}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// Run waits.
func Run(ctx context.Context, f *factory.Factory, opts *Options, args []string) error {
	if kind, disks, ok := volume.Named(args); ok {
		return runDisks(ctx, f, opts, kind, disks)
	}
	goal, err := goalOf(opts.For)
	if err != nil {
		return err
	}
	flags := &action.Flags{Selection: opts.Selection, Output: opts.Output, Wait: true, Timeout: opts.Timeout}
	return action.Run(ctx, f, action.Verb{
		Kind: target.VM, Infinitive: "wait for", Silent: true, Outcome: action.Is(goal.Name),
		Do:      func(_ context.Context, _ *client.Client, t client.Target) (client.Target, error) { return t, nil },
		Prepare: action.Simply(goal),
	}, flags, args)
}

func goalOf(text string) (await.Goal, error) {
	switch strings.ToLower(text) {
	case "running":
		return await.Running(), nil
	case "ready":
		return await.Ready(), nil
	case "stopped":
		return await.Stopped(), nil
	case "paused":
		return await.Paused(), nil
	case "agent":
		return await.Agent(), nil
	case "ip":
		return await.HasIP(), nil
	case "deleted", "delete":
		return await.Deleted(), nil
	}
	kind, rest, found := strings.Cut(text, "=")
	if !found || kind != "condition" {
		return await.Goal{}, problem.Usagef("--for %q is not a state: use running, ready, stopped, paused, agent, ip, deleted or condition=TYPE[=STATUS]", text)
	}
	kind, status, given := strings.Cut(rest, "=")
	if !given {
		status = string(corev1.ConditionTrue)
	}
	for _, known := range []corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown} {
		if kind != "" && strings.EqualFold(status, string(known)) {
			return await.Condition(kind, known), nil
		}
	}
	return await.Goal{}, problem.Usagef("--for %q: write condition=TYPE or condition=TYPE=STATUS with STATUS True, False or Unknown", text)
}
