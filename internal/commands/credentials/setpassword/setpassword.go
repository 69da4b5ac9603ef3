// Package setpassword is the command that sets the password of a guest's user.
package setpassword

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"virtctl/internal/commands/credentials/access"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
)

// Options are what the command line says.
type Options struct {
	access.Options
	Password     string
	PasswordFile string
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "set-password VM --user USER (--password-file FILE | --password PASSWORD)",
		Short: "Set the password of a guest's user",
		Long: `Set the password of a guest's user. It goes into the Secret of passwords that the machine names, and reaches a running guest through its
agent. What is on a command line can be seen by others on the same computer: --password-file - reads it from a pipe.`,
		Example: `  # From a file, or from a pipe
  {{ProgramName}} credentials set-password web --user alice --password-file password.txt`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: target.CompleteOne(f, target.VM),
		RunE: func(cmd *cobra.Command, args []string) error { return Run(cmd.Context(), f, opts, args[0]) },
	}
	opts.Bind(cmd)
	cmd.Flags().StringVarP(&opts.Password, "password", "p", "", "The password")
	cmd.Flags().StringVar(&opts.PasswordFile, "password-file", "", "File with the password; - reads it from a pipe")
	cmd.MarkFlagsMutuallyExclusive("password", "password-file")
	cmd.MarkFlagsOneRequired("password", "password-file")
	return cmd
}

// Run sets the password.
func Run(ctx context.Context, f *factory.Factory, opts *Options, arg string) error {
	password := opts.Password
	if opts.PasswordFile != "" {
		body, err := access.ReadFile(opts.PasswordFile, f.Streams.In)
		if err != nil {
			return problem.With(problem.Usage, fmt.Errorf("read the password: %w", err))
		}
		password = strings.TrimRight(string(body), "\r\n")
	}
	if password == "" {
		return problem.Usagef("the password is empty")
	}
	m, err := access.Load(ctx, f, arg)
	if err != nil {
		return err
	}
	names := m.PasswordSecrets()
	if len(names) == 0 {
		return problem.New(problem.NotFound, "no secrets assigned to UserPassword AccessCredentials of VM %s: create it with --access-cred type:password,src:SECRET,method:ga", m.VM.Name)
	}
	name, err := opts.Choose(names)
	if err != nil {
		return err
	}
	changed, err := m.Change(ctx, &opts.Options, name, func(data map[string][]byte) map[string]any {
		if string(data[opts.User]) == password {
			return nil
		}
		return map[string]any{opts.User: []byte(password)}
	})
	switch {
	case err != nil:
		return err
	case !changed:
		f.Streams.Print("Secret %q has this password already\n", name)
	default:
		f.Streams.Print("Successfully set password in secret %q\n", name)
	}
	return nil
}
