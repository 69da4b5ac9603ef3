// Package images is the command that looks after the platform's and guests' container images.
package images

import (
	"github.com/spf13/cobra"

	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/images/list"
	"virtctl/internal/commands/images/load"
	"virtctl/internal/commands/images/push"
)

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "images",
		Short: "Bring the platform's images to a registry or to a node",
		Long: `Bring the platform's images to a registry or to a node.

They are files: OCI image layouts in a tar, as the build makes them, or skopeo, podman and Docker 25.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(list.NewCmd(f), push.NewCmd(f), load.NewCmd(f))
	return cmd
}
