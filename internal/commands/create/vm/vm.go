// Package vm is the command that makes virtual machines.
package vm

import (
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/output"
	"virtctl/internal/commands/problem"
)

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	var name, memory, strategy string
	var disks []string
	var out output.Flag
	cmd := &cobra.Command{
		Use:   "vm",
		Short: "Create a VirtualMachine manifest",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			quantity, err := resource.ParseQuantity(memory)
			if err != nil {
				return problem.Usagef("failed to parse \"--memory\" flag: %w", err)
			}
			run := kubevirtv1.VirtualMachineRunStrategy(strategy)
			grace := int64(180)
			vm := &kubevirtv1.VirtualMachine{
				TypeMeta:   metav1.TypeMeta{Kind: "VirtualMachine", APIVersion: "kubevirt.io/v1"},
				ObjectMeta: metav1.ObjectMeta{Name: name},
				Spec: kubevirtv1.VirtualMachineSpec{RunStrategy: &run, Template: &kubevirtv1.VirtualMachineInstanceTemplateSpec{
					Spec: kubevirtv1.VirtualMachineInstanceSpec{
						Domain:                        kubevirtv1.DomainSpec{Memory: &kubevirtv1.Memory{Guest: &quantity}},
						TerminationGracePeriodSeconds: &grace,
					},
				}},
			}
			for i, disk := range disks {
				vm.Spec.Template.Spec.Volumes = append(vm.Spec.Template.Spec.Volumes, kubevirtv1.Volume{
					Name: name + "-containerdisk-" + string(rune('0'+i)),
					VolumeSource: kubevirtv1.VolumeSource{
						ContainerDisk: &kubevirtv1.ContainerDiskSource{Image: strings.TrimPrefix(disk, "src:")},
					},
				})
			}
			return out.Object(f.Streams, client.VirtualMachine(), name, vm)
		},
	}
	cmd.Flags().StringVar(&name, "name", "vm", "Name")
	cmd.Flags().StringVar(&memory, "memory", "512Mi", "Memory")
	cmd.Flags().StringVar(&strategy, "run-strategy", "Always", "Run strategy")
	cmd.Flags().StringArrayVar(&disks, "volume-containerdisk", nil, "Container disk")
	out.Bind(cmd, output.YAML, output.YAML, output.JSON)
	return cmd
}
