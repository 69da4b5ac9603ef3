// Package console is the command that connects to a machine's serial console.
package console

import (
	"context"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"virtctl/internal/client"
	"virtctl/internal/commands/dial"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/flagtype"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
)

// Options are what the command line says.
type Options struct {
	Timeout flagtype.Minutes
	Quiet   time.Duration
	// Stable is how long a session must have lasted to be taken up again after the connection broke.
	Stable time.Duration
}

const (
	defaultTimeout = 5 * time.Minute
	defaultQuiet   = 2 * time.Second
)

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{Timeout: flagtype.Minutes(defaultTimeout), Stable: stableAfter}
	cmd := &cobra.Command{
		Use:   "console VMI",
		Short: "Connect to a machine's serial console",
		Long: `Connect to a machine's serial console.

On a terminal the session is interactive: leave it with Ctrl+] or Ctrl+5. A machine that is starting is waited for, a broken
connection is taken up again.

In a pipe the input is typed into the console; when it has ended, the session goes on until the console has been quiet for a
moment (--quiet-after), and at most as long as --timeout says. So the answer to what was typed is not lost.`,
		Example: `  # Connect to the console of web
  {{ProgramName}} console web

  # Wait at most one minute for the machine to come up
  {{ProgramName}} console web --timeout 1

  # Run a command through the console and keep the answer
  echo uname | {{ProgramName}} console web --timeout 20s > answer.txt`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: target.CompleteOne(f, target.VMI),
		RunE: func(cmd *cobra.Command, args []string) error {
			return Run(cmd.Context(), f, opts, args[0])
		},
	}
	cmd.Flags().Var(&opts.Timeout, "timeout", "How long to wait for the machine, and in a pipe also for its answer: minutes, or a duration such as 20s; 0 is one try")
	cmd.Flags().DurationVar(&opts.Quiet, "quiet-after", defaultQuiet, "In a pipe: how long the console must be quiet after the end of the input")
	return cmd
}

// Run connects and stays connected until one side ends the session.
func Run(ctx context.Context, f *factory.Factory, opts *Options, name string) error {
	if opts.Quiet <= 0 {
		return problem.Usagef("--quiet-after must be greater than 0")
	}
	namespace, _, err := f.Namespace()
	if err != nil {
		return err
	}
	t, err := target.ParseOne(target.VMI, namespace, name)
	if err != nil {
		return err
	}
	c, err := f.Client()
	if err != nil {
		return err
	}
	s := &session{streams: f.Streams, options: opts, name: t.Name, input: readInput(ctx, f.Streams.In)}
	s.open = func(patience time.Duration, again bool) (*client.Stream, error) {
		return dial.Open(ctx, c, dial.Request{
			Target: client.VMI(t.Namespace, t.Name), Subresource: "console", Patience: patience, Again: again,
			Query:  url.Values{"replay": {"true"}},
			Report: func(text string) { s.say("%s\n", text) },
		})
	}
	return s.run(ctx)
}
