// Package removesshkey is the command that takes an SSH key from a guest's user.
package removesshkey

import (
	"context"

	"github.com/spf13/cobra"

	"virtctl/internal/commands/credentials/access"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
)

// Options are what the command line says.
type Options struct {
	access.Options
	Key access.Key
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "remove-ssh-key VM --user USER (--file FILE | --value KEY)",
		Short: "Take an SSH key from a guest's user",
		Long:  "Take an SSH key from a guest's user: it is removed from every Secret that the machine names for the user.",
		Example: `  # alice may no longer log in to web with this key
  {{ProgramName}} credentials remove-ssh-key web --user alice --file ~/.ssh/id_ed25519.pub`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: target.CompleteOne(f, target.VM),
		RunE: func(cmd *cobra.Command, args []string) error { return Run(cmd.Context(), f, opts, args[0]) },
	}
	opts.Bind(cmd)
	opts.Key.Bind(cmd)
	return cmd
}

// Run removes the key.
func Run(ctx context.Context, f *factory.Factory, opts *Options, arg string) error {
	key, err := opts.Key.Read(f.Streams.In)
	if err != nil {
		return err
	}
	m, err := access.Load(ctx, f, arg)
	if err != nil {
		return err
	}
	names := m.KeySecrets(opts.User)
	if len(names) == 0 {
		return problem.New(problem.NotFound, "no secrets associated with user %s: VM %s gets no keys for it through its agent", opts.User, m.VM.Name)
	}
	if opts.Secret != "" {
		if _, err := opts.Choose(names); err != nil {
			return err
		}
		names = []string{opts.Secret}
	}
	found := false
	for _, name := range names {
		changed, err := m.Change(ctx, &opts.Options, name, func(data map[string][]byte) map[string]any {
			gone := map[string]any{}
			for _, entry := range access.Entries(data, key) {
				gone[entry] = nil
			}
			return gone
		})
		if err != nil {
			return err
		}
		if changed {
			found = true
			f.Streams.Print("Successfully removed the key from secret %q\n", name)
		}
	}
	if !found {
		return problem.New(problem.NotFound, "user %s of VM %s does not have this key", opts.User, m.VM.Name)
	}
	return nil
}
