// Package instancetype is the command that makes instance types.
package instancetype

import (
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	kubevirtv1 "kubevirt.io/api/core/v1"
	instancetypev1beta1 "kubevirt.io/api/instancetype/v1beta1"

	"virtctl/internal/commands/create/params"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/output"
)

const (
	groupVersion = "instancetype.kubevirt.io/v1beta1"
	nameLength   = 5
)

// Options are what the command line says.
type Options struct {
	Name, Memory, IOThreads string
	CPU                     uint32
	GPUs, HostDevices       []string
	Namespaced              bool
	Output                  output.Flag
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "instancetype",
		Short: "Create a VirtualMachineInstancetype or VirtualMachineClusterInstancetype manifest",
		Example: `  # For every namespace
  {{ProgramName}} create instancetype --name small --cpu 2 --memory 2Gi | kubectl create -f -

  # For one namespace
  {{ProgramName}} create instancetype --cpu 2 --memory 2Gi -n team

  # With a GPU
  {{ProgramName}} create instancetype --cpu 2 --memory 2Gi --gpu name:gpu1,devicename:nvidia.com/gpu1`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return Run(f, opts) },
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.Name, "name", "", "Name; default instancetype- and five random characters")
	flags.Uint32Var(&opts.CPU, "cpu", 0, "Number of virtual processors")
	flags.StringVar(&opts.Memory, "memory", "", "Memory of the guest")
	flags.StringArrayVar(&opts.GPUs, "gpu", nil, "GPU: name:NAME,devicename:RESOURCE; may be repeated")
	flags.StringArrayVar(&opts.HostDevices, "hostdevice", nil, "Device of the node: name:NAME,devicename:RESOURCE; may be repeated")
	flags.StringVar(&opts.IOThreads, "iothreadspolicy", "", "Policy for IO threads: auto or shared")
	flags.BoolVar(&opts.Namespaced, "namespaced", false, "Make a VirtualMachineInstancetype, which holds for one namespace")
	_ = cmd.MarkFlagRequired("cpu")
	_ = cmd.MarkFlagRequired("memory")
	_ = cmd.RegisterFlagCompletionFunc("iothreadspolicy", cobra.FixedCompletions([]string{"auto", "shared"}, cobra.ShellCompDirectiveNoFileComp))
	opts.Output.Bind(cmd, output.YAML, output.YAML, output.JSON)
	return cmd
}

// Run prints the manifest.
func Run(f *factory.Factory, opts *Options) error {
	if err := opts.Output.Check(); err != nil {
		return err
	}
	spec, err := opts.spec()
	if err != nil {
		return err
	}
	name := opts.Name
	if name == "" {
		name = "instancetype-" + rand.String(nameLength)
	}
	namespace, explicit, err := f.Namespace()
	if err != nil && explicit {
		return err
	}
	if explicit || opts.Namespaced {
		object := &instancetypev1beta1.VirtualMachineInstancetype{
			TypeMeta:   metav1.TypeMeta{APIVersion: groupVersion, Kind: "VirtualMachineInstancetype"},
			ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: *spec,
		}
		if explicit {
			object.Namespace = namespace
		}
		return opts.Output.Value(f.Streams, object)
	}
	return opts.Output.Value(f.Streams, &instancetypev1beta1.VirtualMachineClusterInstancetype{
		TypeMeta:   metav1.TypeMeta{APIVersion: groupVersion, Kind: "VirtualMachineClusterInstancetype"},
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: *spec,
	})
}

func (o *Options) spec() (*instancetypev1beta1.VirtualMachineInstancetypeSpec, error) {
	if o.CPU == 0 {
		return nil, params.Errorf("cpu", "cpu value must be greater than zero")
	}
	memory, err := resource.ParseQuantity(o.Memory)
	if err != nil {
		return nil, params.Errorf("memory", "%q is not a size such as 1Gi: %w", o.Memory, err)
	}
	spec := &instancetypev1beta1.VirtualMachineInstancetypeSpec{
		CPU: instancetypev1beta1.CPUInstancetype{Guest: o.CPU}, Memory: instancetypev1beta1.MemoryInstancetype{Guest: memory},
	}
	for _, text := range o.GPUs {
		name, device, err := deviceOf("gpu", text)
		if err != nil {
			return nil, err
		}
		spec.GPUs = append(spec.GPUs, kubevirtv1.GPU{Name: name, DeviceName: device})
	}
	for _, text := range o.HostDevices {
		name, device, err := deviceOf("hostdevice", text)
		if err != nil {
			return nil, err
		}
		spec.HostDevices = append(spec.HostDevices, kubevirtv1.HostDevice{Name: name, DeviceName: device})
	}
	switch policy := kubevirtv1.IOThreadsPolicy(strings.ToLower(o.IOThreads)); policy {
	case "":
	case kubevirtv1.IOThreadsPolicyAuto, kubevirtv1.IOThreadsPolicyShared:
		spec.IOThreadsPolicy = &policy
	default:
		return nil, params.Errorf("iothreadspolicy", "invalid IOThread policy %q, supported values are: auto, shared", o.IOThreads)
	}
	return spec, nil
}

func deviceOf(flag, text string) (name, device string, err error) {
	values, err := params.Parse(flag, text, "name", "devicename")
	if err != nil {
		return "", "", err
	}
	if name, err = values.Need("name"); err != nil {
		return "", "", err
	}
	device, err = values.Need("devicename")
	return name, device, err
}
