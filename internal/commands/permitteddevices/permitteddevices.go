// Package permitteddevices is the command that lists which devices of the nodes machines may use.
package permitteddevices

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/output"
	"virtctl/internal/commands/problem"
)

// Devices are the resource names that machines may ask for.
type Devices struct {
	Host []string `json:"hostDevices"`
	GPU  []string `json:"gpuDevices"`
	USB  []string `json:"usbDevices,omitempty"`
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	out := &output.Flag{}
	cmd := &cobra.Command{
		Use:   "permitted-devices",
		Short: "List which devices of the nodes machines may use",
		Example: `  # All of them
  {{ProgramName}} permitted-devices`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return Run(cmd.Context(), f, out) },
	}
	out.Bind(cmd, "", output.JSON, output.YAML, output.Path)
	return cmd
}

// Run lists the devices.
func Run(ctx context.Context, f *factory.Factory, out *output.Flag) error {
	if err := out.Check(); err != nil {
		return err
	}
	namespace, explicit, err := f.Namespace()
	if err != nil {
		return err
	}
	if !explicit {
		namespace = ""
	}
	c, err := f.Client()
	if err != nil {
		return err
	}
	list, err := c.KubeVirts(namespace).List(ctx, client.ListOptions{})
	if err != nil {
		return fmt.Errorf("cannot read the platform's configuration: %w", err)
	}
	if len(list.Items) == 0 {
		return problem.New(problem.NotFound, "no KubeVirt resource found: is the platform installed? see \"virtctl status\"")
	}
	devices := devicesOf(list.Items[0].Spec.Configuration.PermittedHostDevices)
	if !out.IsTable() {
		return out.Value(f.Streams, devices)
	}
	f.Streams.Print("Permitted Devices:\nGPU Devices: \n%s\nHost Devices: \n%s\n", strings.Join(devices.GPU, ", "), strings.Join(devices.Host, ", "))
	if len(devices.USB) > 0 {
		f.Streams.Print("USB Devices: \n%s\n", strings.Join(devices.USB, ", "))
	}
	return nil
}

func devicesOf(permitted *kubevirtv1.PermittedHostDevices) Devices {
	devices := Devices{Host: []string{}, GPU: []string{}}
	if permitted == nil {
		return devices
	}
	for _, d := range permitted.PciHostDevices {
		devices.Host = append(devices.Host, d.ResourceName)
	}
	for _, d := range permitted.MediatedDevices {
		devices.GPU = append(devices.GPU, d.ResourceName)
	}
	for _, d := range permitted.USB {
		devices.USB = append(devices.USB, d.ResourceName)
	}
	for _, names := range []*[]string{&devices.Host, &devices.GPU, &devices.USB} {
		slices.Sort(*names)
		*names = slices.Compact(*names)
	}
	return devices
}
