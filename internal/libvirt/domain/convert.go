package domain

import (
	"fmt"

	v1 "kubevirt.io/api/core/v1"
	"libvirt.org/go/libvirtxml"
)

// builder carries one conversion through its steps.
type builder struct {
	vmi  *v1.VirtualMachineInstance
	spec *v1.DomainSpec
	in   Input
	arch arch
	dom  *libvirtxml.Domain
	// vcpus is how many virtual processors the guest starts with, maxVCPUs how many it can have; topo is the shape.
	topo            topology
	vcpus, maxVCPUs uint
	// threads hands out iothreads to disks.
	threads ioThreads
}

// Convert makes the domain. Its order is the document's: what later steps need from earlier ones is in the builder.
func Convert(vmi *v1.VirtualMachineInstance, in Input) (*libvirtxml.Domain, error) {
	b, err := newBuilder(vmi, in)
	if err != nil {
		return nil, err
	}
	steps := []func(*builder) error{
		(*builder).refuseUnsupported,
		(*builder).identity,
		(*builder).memory,
		(*builder).cpu,
		(*builder).cpuPlacement,
		(*builder).ioThreads,
		(*builder).firmware,
		(*builder).features,
		(*builder).clock,
		(*builder).lifecycle,
		(*builder).disks,
		(*builder).interfaces,
		(*builder).consoles,
		(*builder).graphics,
		(*builder).inputs,
		(*builder).extras,
		(*builder).hostDevices,
		(*builder).controllers,
	}
	for _, step := range steps {
		if err := step(b); err != nil {
			return nil, err
		}
	}
	return b.dom, nil
}

// XML is Convert's domain as libvirt reads it.
func XML(vmi *v1.VirtualMachineInstance, in Input) (string, error) {
	dom, err := Convert(vmi, in)
	if err != nil {
		return "", err
	}
	doc, err := dom.Marshal()
	if err != nil {
		return "", fmt.Errorf("write domain of %s/%s: %w", vmi.Namespace, vmi.Name, err)
	}
	return doc, nil
}

func newBuilder(vmi *v1.VirtualMachineInstance, in Input) (*builder, error) {
	name := vmi.Spec.Architecture
	if name == "" {
		name = in.Host.Arch
	}
	arch, ok := architecture(name)
	if !ok {
		return nil, invalid(specPath().Child("architecture"), "%q is not one of amd64, arm64, s390x", name)
	}
	if host, ok := architecture(in.Host.Arch); ok && host.name != arch.name && in.Host.KVM {
		return nil, invalid(specPath().Child("architecture"),
			"%s guests cannot run with hardware virtualization on this %s node; schedule it to a %s node", name, in.Host.Arch, name)
	}
	return &builder{
		vmi: vmi, spec: &vmi.Spec.Domain, in: in, arch: arch,
		dom: &libvirtxml.Domain{Devices: &libvirtxml.DomainDeviceList{Emulator: in.Host.Emulator}},
	}, nil
}

// refuseUnsupported names what this version has no device for, so that nothing disappears without a word.
func (b *builder) refuseUnsupported() error {
	devices := &b.spec.Devices
	switch {
	case len(devices.Filesystems) > 0:
		return invalid(devicesPath().Child("filesystems").Index(0), "shared filesystems are not available; use a disk")
	case devices.DownwardMetrics != nil:
		return invalid(devicesPath().Child("downwardMetrics"), "downward metrics are not available; remove the field")
	case devices.ClientPassthrough != nil && !b.arch.usb:
		return invalid(devicesPath().Child("clientPassthrough"), "%s guests have no USB; remove the field", b.arch.name)
	case b.spec.LaunchSecurity != nil:
		return invalid(domainPath().Child("launchSecurity"), "confidential guests are not available; remove the field")
	}
	return nil
}

// virtio is the model of virtio devices that have models.
func (b *builder) virtio() string {
	if isTrue(b.spec.Devices.UseVirtioTransitional) {
		return b.arch.transitional
	}
	return b.arch.nonTransitional
}

func isTrue(value *bool) bool  { return value != nil && *value }
func isFalse(value *bool) bool { return value != nil && !*value }
func uintPtr(value uint) *uint { return &value }

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}
