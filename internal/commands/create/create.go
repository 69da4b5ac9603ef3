// Package create is the command under which new objects are made.
package create

import (
	"github.com/spf13/cobra"

	"virtctl/internal/commands/create/clone"
	"virtctl/internal/commands/create/instancetype"
	"virtctl/internal/commands/create/preference"
	"virtctl/internal/commands/create/vm"
	"virtctl/internal/commands/factory"
)

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create virtual machines, instance types, preferences and clones",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(vm.NewCmd(f), instancetype.NewCmd(f), preference.NewCmd(f), clone.NewCmd(f))
	return cmd
}
