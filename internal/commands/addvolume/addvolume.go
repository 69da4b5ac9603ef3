// Package addvolume is the command that plugs a volume into a machine.
package addvolume

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/hotplug"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
)

// Options are what the command line says.
type Options struct {
	hotplug.Options
	DiskName, Serial, Cache, DiskType, Bus string
}

// maxName is how long a disk's name may be.
const maxName = 63

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "addvolume VMI --volume-name VOLUME",
		Short: "Plug a volume into a machine",
		Long: `Plug a data volume or claim into a machine, which may be running. The volume stays with the machine when it restarts.

Volumes can be plugged into and out of a machine where the cluster allows it: see "{{ProgramName}} status".`,
		Example: `  # Plug a claim in as a SCSI disk
  {{ProgramName}} addvolume web --volume-name data

  # As a virtio disk that the guest finds by its serial number
  {{ProgramName}} addvolume web --volume-name data --bus virtio --serial data-1`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: target.CompleteOne(f, target.VMI),
		RunE: func(cmd *cobra.Command, args []string) error {
			return Run(cmd.Context(), f, opts, args[0])
		},
	}
	opts.Bind(f, cmd)
	flags := cmd.Flags()
	flags.StringVar(&opts.DiskName, "disk-name", "", "Name of the disk in the machine; default the volume's")
	flags.StringVar(&opts.Serial, "serial", "", "Serial number the guest sees; default the disk's name")
	flags.StringVar(&opts.Cache, "cache", "", "Cache mode: none, writethrough or writeback")
	flags.StringVar(&opts.DiskType, "disk-type", "disk", "What the guest sees: disk or lun")
	flags.StringVar(&opts.Bus, "bus", "scsi", "Bus: scsi, or virtio for a disk")
	for flag, values := range map[string][]string{
		"cache": {"none", "writethrough", "writeback"}, "disk-type": {"disk", "lun"}, "bus": {"scsi", "virtio"},
	} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	return cmd
}

// Run plugs the volume in.
func Run(ctx context.Context, f *factory.Factory, opts *Options, name string) error {
	disk, err := opts.disk()
	if err != nil {
		return err
	}
	c, t, err := hotplug.Prepare(f, name)
	if err != nil {
		return err
	}
	source, err := hotplug.Source(ctx, c, t.Namespace, opts.Volume)
	if err != nil {
		return err
	}
	add := &kubevirtv1.AddVolumeOptions{Name: disk.Name, Disk: disk, VolumeSource: source}
	if opts.DryRun {
		add.DryRun = []string{metav1.DryRunAll}
		f.Streams.Print("Dry Run execution\n")
	}
	done, err := hotplug.Send(ctx, c, t, "addvolume", add)
	if err != nil {
		return fmt.Errorf("cannot add volume %s to %s: %w", opts.Volume, name, target.Explain(ctx, c, t, err))
	}
	if opts.DryRun {
		f.Streams.Print("a request to add volume %s to %s %s would be submitted (dry run: nothing was changed)\n", opts.Volume, target.Word(done), t.Name)
		return nil
	}
	f.Streams.Print("Successfully submitted add volume request to %s %s for volume %s\n", target.Word(done), t.Name, opts.Volume)
	return nil
}

func (o *Options) disk() (*kubevirtv1.Disk, error) {
	name := o.DiskName
	if name == "" {
		name = o.Volume
	}
	if len(name) > maxName {
		return nil, problem.Usagef("the name %q is longer than %d characters: Use in conjunction with --disk-name to give the disk a shorter one", name, maxName)
	}
	disk := &kubevirtv1.Disk{Name: name, Serial: o.Serial, Cache: kubevirtv1.DriverCache(o.Cache)}
	if disk.Serial == "" {
		disk.Serial = name
	}
	if o.Cache != "" && !slices.Contains([]string{"none", "writethrough", "writeback"}, o.Cache) {
		return nil, problem.Usagef("invalid cache value %q: use none, writethrough or writeback", o.Cache)
	}
	switch o.DiskType {
	case "disk":
		if o.Bus != "scsi" && o.Bus != "virtio" {
			return nil, problem.Usagef("Invalid bus type '%s' for disk: use scsi or virtio", o.Bus)
		}
		disk.Disk = &kubevirtv1.DiskTarget{Bus: kubevirtv1.DiskBus(o.Bus)}
	case "lun":
		if o.Bus != "scsi" {
			return nil, problem.Usagef("Invalid bus type '%s' for lun: use scsi", o.Bus)
		}
		disk.LUN = &kubevirtv1.LunTarget{Bus: kubevirtv1.DiskBusSCSI}
	default:
		return nil, problem.Usagef("Invalid disk type '%s': use disk or lun", o.DiskType)
	}
	return disk, nil
}
