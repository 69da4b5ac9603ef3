// Package clone is the command that makes clones of virtual machines.
package clone

import (
	"net"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	clonev1beta1 "kubevirt.io/api/clone/v1beta1"

	"virtctl/internal/commands/create/params"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/output"
	"virtctl/internal/commands/target"
)

const nameLength = 5

// Options are what the command line says.
type Options struct {
	Name, SourceName, SourceType, TargetName, TargetType     string
	LabelFilters, AnnotationFilters                          []string
	TemplateLabelFilters, TemplateAnnotationFilters, NewMACs []string
	NewSerial                                                string
	Output                                                   output.Flag
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "clone",
		Short: "Create a VirtualMachineClone manifest",
		Example: `  # Clone a virtual machine
  {{ProgramName}} create clone --source-name web --target-name web2 | kubectl create -f -

  # Clone a snapshot; the copy gets another MAC address
  {{ProgramName}} create clone --source-type snapshot --source-name web-monday --new-mac-address default:02:00:00:00:00:07`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return Run(f, opts) },
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.Name, "name", "", "Name of the clone object; default clone- and five random characters")
	flags.StringVar(&opts.SourceName, "source-name", "", "Name of what is cloned")
	flags.StringVar(&opts.SourceType, "source-type", "vm", "Type of what is cloned: vm or snapshot")
	flags.StringVar(&opts.TargetName, "target-name", "", "Name of the new machine; default a random one")
	flags.StringVar(&opts.TargetType, "target-type", "vm", "Type of the copy: vm")
	flags.StringArrayVar(&opts.LabelFilters, "label-filter", nil, "Which labels the copy takes over, for example '*' or '!some/key'; may be repeated")
	flags.StringArrayVar(&opts.AnnotationFilters, "annotation-filter", nil, "Which annotations the copy takes over; may be repeated")
	flags.StringArrayVar(&opts.TemplateLabelFilters, "template-label-filter", nil, "Which labels of the template the copy takes over; may be repeated")
	flags.StringArrayVar(&opts.TemplateAnnotationFilters, "template-annotation-filter", nil, "Which annotations of the template the copy takes over; may be repeated")
	flags.StringArrayVar(&opts.NewMACs, "new-mac-address", nil, "MAC address of an interface of the copy: INTERFACE:MAC; may be repeated")
	flags.StringVar(&opts.NewSerial, "new-smbios-serial", "", "SMBIOS serial number of the copy")
	_ = cmd.MarkFlagRequired("source-name")
	for flag, values := range map[string][]string{"source-type": {"vm", "snapshot"}, "target-type": {"vm"}} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	_ = cmd.RegisterFlagCompletionFunc("source-name", target.Complete(f, target.VM))
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
	clone := &clonev1beta1.VirtualMachineClone{
		TypeMeta:   metav1.TypeMeta{APIVersion: "clone.kubevirt.io/v1beta1", Kind: "VirtualMachineClone"},
		ObjectMeta: metav1.ObjectMeta{Name: opts.Name}, Spec: *spec,
	}
	if clone.Name == "" {
		clone.Name = "clone-" + rand.String(nameLength)
	}
	namespace, explicit, err := f.Namespace()
	if err == nil && explicit {
		clone.Namespace = namespace
	}
	return opts.Output.Value(f.Streams, clone)
}

func (o *Options) spec() (*clonev1beta1.VirtualMachineCloneSpec, error) {
	source, err := reference("source-type", o.SourceType, o.SourceName)
	if err != nil {
		return nil, err
	}
	spec := &clonev1beta1.VirtualMachineCloneSpec{
		Source: source, LabelFilters: o.LabelFilters, AnnotationFilters: o.AnnotationFilters,
		Template: clonev1beta1.VirtualMachineCloneTemplateFilters{
			LabelFilters: o.TemplateLabelFilters, AnnotationFilters: o.TemplateAnnotationFilters,
		},
	}
	if kind := strings.ToLower(o.TargetType); kind != "vm" && kind != "virtualmachine" {
		return nil, params.Errorf("target-type", "invalid type %q, supported values are: vm", o.TargetType)
	}
	if o.TargetName != "" {
		if spec.Target, err = reference("target-type", o.TargetType, o.TargetName); err != nil {
			return nil, err
		}
	}
	if o.NewSerial != "" {
		spec.NewSMBiosSerial = &o.NewSerial
	}
	for _, text := range o.NewMACs {
		name, address, found := strings.Cut(text, ":")
		mac, err := net.ParseMAC(address)
		if !found || name == "" || err != nil || len(mac) != 6 {
			return nil, params.Errorf("new-mac-address", "%q is not INTERFACE:MAC, for example default:02:00:00:00:00:07", text)
		}
		if spec.NewMacAddresses == nil {
			spec.NewMacAddresses = map[string]string{}
		}
		spec.NewMacAddresses[name] = mac.String()
	}
	return spec, nil
}

func reference(flag, kind, name string) (*corev1.TypedLocalObjectReference, error) {
	vms, snapshots := "kubevirt.io", "snapshot.kubevirt.io"
	switch strings.ToLower(kind) {
	case "vm", "virtualmachine":
		return &corev1.TypedLocalObjectReference{APIGroup: &vms, Kind: "VirtualMachine", Name: name}, nil
	case "snapshot", "vmsnapshot", "virtualmachinesnapshot":
		return &corev1.TypedLocalObjectReference{APIGroup: &snapshots, Kind: "VirtualMachineSnapshot", Name: name}, nil
	}
	return nil, params.Errorf(flag, "invalid type %q, supported values are: vm, snapshot", kind)
}
