// Package storage is the command about the cluster's storage.
package storage

import (
	"github.com/spf13/cobra"

	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/storage/check"
)

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "storage",
		Short: "Look at the cluster's storage",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(check.NewCmd(f))
	return cmd
}
