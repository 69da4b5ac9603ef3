// Package ssh is the command that logs in to a machine with the local ssh program.
package ssh

import (
	"context"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/remote"
)

// Options are what the command line says.
type Options struct {
	remote.Options
	Command string
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "ssh [USER@](vm|vmi)/NAME[/NAMESPACE] [-- COMMAND...]",
		Short: "Log in to a machine with SSH",
		Long: `Log in to a machine with SSH.

The local ssh program is used, and reaches the machine through the API server. Its exit status is passed on; 255 means that ssh
itself failed.`,
		Example: `  # Log in to web as alice
  {{ProgramName}} ssh alice@vm/web

  # Run a command and keep its exit status
  {{ProgramName}} ssh alice@vm/web --command 'systemctl is-active nginx'

  # Options for the local ssh program
  {{ProgramName}} ssh alice@vm/web --local-ssh-opts="-o StrictHostKeyChecking=no" -i ~/.ssh/id_ed25519`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: remote.Complete(f),
		RunE: func(cmd *cobra.Command, args []string) error {
			return Run(cmd.Context(), f, opts, args)
		},
	}
	opts.Bind(cmd.Flags())
	cmd.Flags().StringVarP(&opts.Command, "command", "c", "", "Command to run in the machine instead of a shell")
	return cmd
}

// Run logs in.
func Run(ctx context.Context, f *factory.Factory, opts *Options, args []string) error {
	namespace, _, err := f.Namespace()
	if err != nil {
		return err
	}
	host, err := remote.ParseHost(namespace, args[0])
	if err != nil {
		return err
	}
	line := opts.Arguments(f, host)
	line = append(line, "-p", strconv.Itoa(opts.Port), "-l", host.UserOr(opts.User, os.Getenv("USER")), host.Alias())
	if opts.Command != "" {
		line = append(line, opts.Command)
	}
	return remote.Run(ctx, f.Streams, "ssh", append(line, args[1:]...))
}
