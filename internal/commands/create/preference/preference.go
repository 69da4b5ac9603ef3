// Package preference is the command that makes preferences.
package preference

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	instancetypev1beta1 "kubevirt.io/api/instancetype/v1beta1"

	"virtctl/internal/commands/create/params"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/output"
)

const (
	groupVersion = "instancetype.kubevirt.io/v1beta1"
	nameLength   = 5
)

func topologies() []string {
	return []string{"sockets", "cores", "threads", "spread", "any", "preferSockets", "preferCores", "preferThreads", "preferSpread", "preferAny"}
}

// Options are what the command line says.
type Options struct {
	Name, Topology, Machine, StorageClass string
	Namespaced                            bool
	Output                                output.Flag
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "preference",
		Short: "Create a VirtualMachinePreference or VirtualMachineClusterPreference manifest",
		Example: `  # For every namespace
  {{ProgramName}} create preference --name windows --cpu-topology sockets | kubectl create -f -

  # For one namespace
  {{ProgramName}} create preference --machine-type q35 -n team`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return Run(f, opts) },
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.Name, "name", "", "Name; default preference- and five random characters")
	flags.StringVar(&opts.Topology, "cpu-topology", "", "How virtual processors are presented: sockets, cores, threads, spread or any")
	flags.StringVar(&opts.Machine, "machine-type", "", "Machine type")
	flags.StringVar(&opts.StorageClass, "volume-storage-class", "", "Storage class of new volumes")
	flags.BoolVar(&opts.Namespaced, "namespaced", false, "Make a VirtualMachinePreference, which holds for one namespace")
	_ = cmd.RegisterFlagCompletionFunc("cpu-topology", cobra.FixedCompletions(topologies()[:5], cobra.ShellCompDirectiveNoFileComp))
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
		name = "preference-" + rand.String(nameLength)
	}
	namespace, explicit, err := f.Namespace()
	if err != nil && explicit {
		return err
	}
	if explicit || opts.Namespaced {
		object := &instancetypev1beta1.VirtualMachinePreference{
			TypeMeta:   metav1.TypeMeta{APIVersion: groupVersion, Kind: "VirtualMachinePreference"},
			ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: *spec,
		}
		if explicit {
			object.Namespace = namespace
		}
		return opts.Output.Value(f.Streams, object)
	}
	return opts.Output.Value(f.Streams, &instancetypev1beta1.VirtualMachineClusterPreference{
		TypeMeta:   metav1.TypeMeta{APIVersion: groupVersion, Kind: "VirtualMachineClusterPreference"},
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: *spec,
	})
}

func (o *Options) spec() (*instancetypev1beta1.VirtualMachinePreferenceSpec, error) {
	spec := &instancetypev1beta1.VirtualMachinePreferenceSpec{}
	if o.Topology != "" {
		i := slices.IndexFunc(topologies(), func(known string) bool { return strings.EqualFold(known, o.Topology) })
		if i < 0 {
			return nil, params.Errorf("cpu-topology", "invalid CPU topology %q, supported values are: %s", o.Topology, strings.Join(topologies(), ", "))
		}
		topology := instancetypev1beta1.PreferredCPUTopology(topologies()[i])
		spec.CPU = &instancetypev1beta1.CPUPreferences{PreferredCPUTopology: &topology}
	}
	if o.Machine != "" {
		spec.Machine = &instancetypev1beta1.MachinePreferences{PreferredMachineType: o.Machine}
	}
	if o.StorageClass != "" {
		spec.Volumes = &instancetypev1beta1.VolumePreferences{PreferredStorageClassName: o.StorageClass}
	}
	return spec, nil
}
