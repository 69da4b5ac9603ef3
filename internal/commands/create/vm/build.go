package vm

import (
	"errors"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/validation"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/commands/create/params"
	"virtctl/internal/commands/terminal"
)

func runStrategies() []string {
	return []string{
		string(kubevirtv1.RunStrategyAlways), string(kubevirtv1.RunStrategyManual), string(kubevirtv1.RunStrategyHalted),
		string(kubevirtv1.RunStrategyOnce), string(kubevirtv1.RunStrategyRerunOnFailure),
	}
}

// builder puts a machine together from the options.
type builder struct {
	opts    *Options
	streams *terminal.Streams
	vm      *kubevirtv1.VirtualMachine
	spec    *kubevirtv1.VirtualMachineInstanceSpec
	// bootOrders are those in use.
	bootOrders map[uint]bool
	// inferable are the volumes from which an instance type or a preference may be taken; the value is why not.
	inferable map[string]error
}

// build makes the machine; warnings go to the streams.
func (o *Options) build(streams *terminal.Streams) (*kubevirtv1.VirtualMachine, error) {
	if o.Name == "" {
		o.Name = "vm-" + rand.String(5)
	}
	vm := &kubevirtv1.VirtualMachine{
		TypeMeta:   metav1.TypeMeta{Kind: "VirtualMachine", APIVersion: "kubevirt.io/v1"},
		ObjectMeta: metav1.ObjectMeta{Name: o.Name, Labels: o.Labels, Annotations: o.Annotations},
		Spec:       kubevirtv1.VirtualMachineSpec{Template: &kubevirtv1.VirtualMachineInstanceTemplateSpec{}},
	}
	b := &builder{
		opts: o, streams: streams, vm: vm, spec: &vm.Spec.Template.Spec,
		bootOrders: map[uint]bool{}, inferable: map[string]error{},
	}
	for _, step := range []func() error{
		b.basics, b.memory, b.cpu, b.volumes, b.sysprep, b.cloudInit, b.accessCredentials, b.instancetype, b.preference, b.hardware,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return vm, nil
}

func (b *builder) basics() error {
	o := b.opts
	if wrong := validation.IsDNS1123Subdomain(o.Name); len(wrong) > 0 {
		return params.Errorf("name", "%q is not a valid name: %s", o.Name, strings.Join(wrong, "; "))
	}
	if !slices.Contains(runStrategies(), o.RunStrategy) {
		return params.Errorf("run-strategy", "invalid run strategy %q, supported values are: %s", o.RunStrategy, strings.Join(runStrategies(), ", "))
	}
	strategy := kubevirtv1.VirtualMachineRunStrategy(o.RunStrategy)
	b.vm.Spec.RunStrategy = &strategy
	if o.GracePeriod < 0 {
		return params.Errorf("termination-grace-period", "must not be negative")
	}
	b.spec.TerminationGracePeriodSeconds = &o.GracePeriod
	b.spec.NodeSelector = o.NodeSelector
	// Labels go to the runs too, so that Services and policies find the machine's pod by them.
	b.vm.Spec.Template.ObjectMeta.Labels = o.Labels
	return nil
}

// memory is the guest's, unless an instance type will say it.
func (b *builder) memory() error {
	o := b.opts
	if o.Size.Instancetype != "" || o.Size.InferInstancetypeFrom != "" || o.changed(flagInferInstancetype) && o.Size.InferInstancetype {
		return nil
	}
	quantity, err := resource.ParseQuantity(o.Size.Memory)
	if err != nil {
		return params.Errorf(flagMemory, "%q is not a size such as 1Gi: %w", o.Size.Memory, err)
	}
	if quantity.Sign() <= 0 {
		return params.Errorf(flagMemory, "must be greater than 0")
	}
	b.spec.Domain.Memory = &kubevirtv1.Memory{Guest: &quantity}
	return nil
}

// cpu takes a bare number for sockets, because sockets can be added while the machine runs.
func (b *builder) cpu() error {
	text, model := b.opts.Size.CPU, b.opts.Hardware.CPUModel
	if text == "" && model == "" {
		return nil
	}
	cpu := &kubevirtv1.CPU{Model: model}
	b.spec.Domain.CPU = cpu
	if text == "" {
		return nil
	}
	if !strings.Contains(text, ":") {
		text = "sockets:" + text
	}
	values, err := params.Parse("cpu", text, "sockets", "cores", "threads")
	if err != nil {
		return err
	}
	for key, field := range map[string]*uint32{"sockets": &cpu.Sockets, "cores": &cpu.Cores, "threads": &cpu.Threads} {
		count, err := values.Count(key)
		if err != nil {
			return err
		}
		if count != nil {
			*field = uint32(*count)
		}
	}
	return nil
}

// addVolume adds a volume, and a disk when something is to be said about it.
func (b *builder) addVolume(flag string, volume kubevirtv1.Volume, bootOrder *uint) error {
	if slices.ContainsFunc(b.spec.Volumes, func(v kubevirtv1.Volume) bool { return v.Name == volume.Name }) {
		return params.Errorf(flag, "there is already a volume with name '%s'", volume.Name)
	}
	if wrong := validation.IsDNS1123Label(volume.Name); len(wrong) > 0 && flag != "volume-import" {
		return params.Errorf(flag, "%q is not a valid volume name: %s; give another with name:NAME", volume.Name, strings.Join(wrong, "; "))
	}
	b.spec.Volumes = append(b.spec.Volumes, volume)
	bus := kubevirtv1.DiskBus(b.opts.Hardware.DiskBus)
	if bootOrder == nil && bus == "" {
		return nil
	}
	if bootOrder != nil {
		if b.bootOrders[*bootOrder] {
			return params.Errorf(flag, "bootorder %d was specified multiple times", *bootOrder)
		}
		b.bootOrders[*bootOrder] = true
	}
	disk := kubevirtv1.Disk{Name: volume.Name, BootOrder: bootOrder}
	if bus != "" {
		disk.Disk = &kubevirtv1.DiskTarget{Bus: bus}
	}
	b.spec.Domain.Devices.Disks = append(b.spec.Domain.Devices.Disks, disk)
	return nil
}

// bootVolume is the volume the machine boots from.
func (b *builder) bootVolume() (string, error) {
	best, order := "", uint(0)
	for _, disk := range b.spec.Domain.Devices.Disks {
		if disk.BootOrder != nil && (best == "" || *disk.BootOrder < order) {
			best, order = disk.Name, *disk.BootOrder
		}
	}
	if best != "" {
		return best, nil
	}
	for _, volume := range b.spec.Volumes {
		if volume.CloudInitNoCloud == nil && volume.CloudInitConfigDrive == nil && volume.Sysprep == nil {
			return volume.Name, nil
		}
	}
	return "", errors.New("at least one volume is needed to infer an instance type or preference")
}
