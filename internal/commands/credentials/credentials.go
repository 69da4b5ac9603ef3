// Package credentials is the command under which the keys and passwords of guests are changed.
package credentials

import (
	"github.com/spf13/cobra"

	"virtctl/internal/commands/credentials/addsshkey"
	"virtctl/internal/commands/credentials/removesshkey"
	"virtctl/internal/commands/credentials/setpassword"
	"virtctl/internal/commands/factory"
)

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "credentials",
		Short: "Change the SSH keys and passwords of a guest's users",
		Long: `Change the SSH keys and passwords of a guest's users.

They live in Secrets that the machine's accessCredentials name, and reach the guest through its agent while it runs.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(addsshkey.NewCmd(f), removesshkey.NewCmd(f), setpassword.NewCmd(f))
	return cmd
}
