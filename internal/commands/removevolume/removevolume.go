// Package removevolume is the command that unplugs a volume from a machine.
package removevolume

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/hotplug"
	"virtctl/internal/commands/target"
)

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &hotplug.Options{}
	cmd := &cobra.Command{
		Use:   "removevolume VMI --volume-name VOLUME",
		Short: "Unplug a volume from a machine",
		Long:  "Unplug a volume that was plugged in with addvolume. The volume itself is not deleted.",
		Example: `  # Unplug the volume data
  {{ProgramName}} removevolume web --volume-name data`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: target.CompleteOne(f, target.VMI),
		RunE: func(cmd *cobra.Command, args []string) error {
			return Run(cmd.Context(), f, opts, args[0])
		},
	}
	opts.Bind(f, cmd)
	return cmd
}

// Run unplugs the volume.
func Run(ctx context.Context, f *factory.Factory, opts *hotplug.Options, name string) error {
	c, t, err := hotplug.Prepare(f, name)
	if err != nil {
		return err
	}
	remove := &kubevirtv1.RemoveVolumeOptions{Name: opts.Volume}
	if opts.DryRun {
		remove.DryRun = []string{metav1.DryRunAll}
		f.Streams.Print("Dry Run execution\n")
	}
	done, err := hotplug.Send(ctx, c, t, "removevolume", remove)
	if err != nil {
		return fmt.Errorf("cannot remove volume %s from %s: %w", opts.Volume, name, target.Explain(ctx, c, t, err))
	}
	if opts.DryRun {
		f.Streams.Print("a request to remove volume %s from %s %s would be submitted (dry run: nothing was changed)\n", opts.Volume, target.Word(done), t.Name)
		return nil
	}
	f.Streams.Print("Successfully submitted remove volume request to %s %s for volume %s\n", target.Word(done), t.Name, opts.Volume)
	return nil
}
