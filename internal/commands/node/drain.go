package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/output"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
)

// Options are what the command line says.
type Options struct {
	Output   output.Flag
	Timeout  time.Duration
	DryRun   bool
	ShutDown bool
}

func newDrain(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Move the virtual machines of a node to other nodes",
		Long: `Move the virtual machines of a node to other nodes, and show it happening.

The node is cordoned first. Each machine then leaves it the way its eviction strategy says: it moves without stopping, or it is shut
down and, if its run strategy says so, started on another node. The command does not shut machines down unless --shut-down is given,
and names those that can do neither with what stands in their way.

Pods that are not virtual machines stay; "kubectl drain" evicts them, and virtual machines the same way as this command does.`,
		Example: `  # What would happen?
  {{ProgramName}} node drain node01 --dry-run

  # Empty the node, work on it, and open it again
  {{ProgramName}} node drain node01
  {{ProgramName}} node uncordon node01`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: target.CompleteNodes(f),
		RunE: func(cmd *cobra.Command, args []string) error { return drain(cmd.Context(), f, opts, args[0]) },
	}
	opts.Output.Bind(cmd, "", output.JSON, output.YAML)
	flags := cmd.Flags()
	flags.DurationVar(&opts.Timeout, "timeout", 10*time.Minute, "How long to wait at most until the node is empty; 0 waits for ever")
	flags.BoolVar(&opts.DryRun, "dry-run", false, "Only say what would become of each machine")
	flags.BoolVar(&opts.ShutDown, "shut-down", false, "Also shut down the machines that cannot move or shall not")
	return cmd
}

// Report is what -o json prints.
type Report struct {
	Node     string     `json:"node"`
	DryRun   bool       `json:"dryRun,omitempty"`
	Empty    bool       `json:"empty"`
	Machines []*Machine `json:"machines"`
}

func drain(ctx context.Context, f *factory.Factory, opts *Options, node string) error {
	if err := opts.Output.Check(); err != nil {
		return err
	}
	if opts.Timeout < 0 {
		return problem.Usagef("--timeout must not be negative")
	}
	c, err := f.Client()
	if err != nil {
		return err
	}
	if _, err := c.Nodes().Get(ctx, node); err != nil {
		return fmt.Errorf("read node %s: %w; see \"virtctl get nodes\"", node, err)
	}
	machines, err := survey(ctx, c, node)
	if err != nil {
		return err
	}
	report := &Report{Node: node, DryRun: opts.DryRun, Machines: machines}
	if opts.DryRun {
		return plan(f, opts, report)
	}
	if doomed := withEffect(machines, ShutsDown); len(doomed) > 0 && !opts.ShutDown {
		return problem.New(problem.Conflict, "draining node %s would shut down %s: give --shut-down if that may be, or set evictionStrategy: LiveMigrate on them",
			node, strings.Join(doomed, ", "))
	}
	changed, err := cordon(ctx, c, node, true)
	if err != nil {
		return err
	}
	if changed {
		f.Streams.Say("node %s: cordoned\n", node)
	}
	if opts.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, opts.Timeout)
		defer cancel()
	}
	d := newDrainage(f, c, opts, report)
	err = d.run(ctx)
	report.Empty = len(d.left()) == 0
	if opts.Output.IsTable() {
		d.summary()
	} else if printed := opts.Output.Value(f.Streams, report); printed != nil {
		return errors.Join(err, printed)
	}
	return err
}

func withEffect(all []*Machine, effect string) []string {
	var names []string
	for _, m := range all {
		if m.Effect == effect {
			names = append(names, m.key())
		}
	}
	return names
}

// plan says what would become of each machine.
func plan(f *factory.Factory, opts *Options, report *Report) error {
	stuck := slices.ContainsFunc(report.Machines, func(m *Machine) bool { return m.Effect == Stays })
	if !opts.Output.IsTable() {
		if err := opts.Output.Value(f.Streams, report); err != nil {
			return err
		}
	} else {
		f.Streams.Print("node %s would be cordoned (dry run: nothing was changed)\n", report.Node)
		for _, m := range report.Machines {
			f.Streams.Print("  %s %s\n", m.key(), m.Effect)
			for _, o := range m.Obstacles {
				f.Streams.Print("    - %s [%s]\n      cure: %s\n", o.Message, o.Reason, o.Cure)
			}
		}
	}
	if stuck {
		return problem.Silent(problem.Conflict)
	}
	return nil
}

// evict asks the API server to have one machine leave. Its answer to a machine that moves is that the eviction has to wait.
func (d *drainage) evict(ctx context.Context, m *Machine) error {
	if m.pod == "" {
		return nil
	}
	err := d.client.Evict(ctx, m.Namespace, m.pod)
	switch {
	case err == nil:
		m.Effect = ShutsDown
		d.say(m, "is being shut down")
	case apierrors.IsNotFound(err):
	case apierrors.IsTooManyRequests(err) && strings.Contains(err.Error(), "not live-migratable"):
		m.Effect, m.Failure = Stays, err.Error()
	case apierrors.IsTooManyRequests(err) && m.Effect != Moves && m.Effect != External:
		m.Failure = err.Error() // somebody's disruption budget
	case apierrors.IsTooManyRequests(err):
		d.say(m, "shall leave")
	default:
		return fmt.Errorf("evict %s: %w", m.key(), err)
	}
	return nil
}
