// Package adm is the command under which administrators change the platform's behaviour.
package adm

import (
	"github.com/spf13/cobra"

	"virtctl/internal/commands/adm/logverbosity"
	"virtctl/internal/commands/factory"
)

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "adm",
		Short: "Change how the platform behaves",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(logverbosity.NewCmd(f))
	return cmd
}
