package domain

import (
	"github.com/google/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"libvirt.org/go/libvirtxml"
)

// hostDevices passes the node's devices that the pod was given.
func (b *builder) hostDevices() error {
	for i := range b.spec.Devices.HostDevices {
		spec := &b.spec.Devices.HostDevices[i]
		if _, err := b.hostDevice(spec.Name, "ua-hostdevice-", devicesPath().Child("hostDevices").Index(i)); err != nil {
			return err
		}
	}
	for i := range b.spec.Devices.GPUs {
		spec := &b.spec.Devices.GPUs[i]
		device, err := b.hostDevice(spec.Name, "ua-gpu-", devicesPath().Child("gpus").Index(i))
		if err != nil {
			return err
		}
		if device.SubsysMDev == nil {
			continue
		}
		// A virtual GPU is a display unless the object says it is not (contract).
		options := spec.VirtualGPUOptions
		if options == nil || options.Display == nil || !isFalse(options.Display.Enabled) {
			device.SubsysMDev.Display = "on"
			if options == nil || options.Display == nil || options.Display.RamFB == nil || enabled(options.Display.RamFB) {
				device.SubsysMDev.RamFB = "on"
			}
		}
	}
	return nil
}

// hostDevice appends the device of that name and returns it for finishing touches; the pointer is good until the next call.
func (b *builder) hostDevice(name, alias string, at *field.Path) (*libvirtxml.DomainHostdev, error) {
	facts, ok := b.in.HostDevices[name]
	if !ok {
		return nil, invalid(at.Child("name"), "the pod was given no device for %q", name)
	}
	device := libvirtxml.DomainHostdev{Managed: "no", Alias: &libvirtxml.DomainAlias{Name: alias + name}}
	switch {
	case facts.PCI != "":
		address, err := pciAddress(facts.PCI, at.Child("name"))
		if err != nil {
			return nil, err
		}
		device.SubsysPCI = &libvirtxml.DomainHostdevSubsysPCI{
			Driver: &libvirtxml.DomainHostdevSubsysPCIDriver{Name: "vfio"},
			Source: &libvirtxml.DomainHostdevSubsysPCISource{Address: address.PCI},
		}
	case facts.MDev != "":
		if _, err := uuid.Parse(facts.MDev); err != nil {
			return nil, invalid(at.Child("name"), "mediated device %q is not a UUID", facts.MDev)
		}
		model := "vfio-pci"
		if !b.arch.pcie {
			model = "vfio-ap"
		}
		device.Managed = ""
		device.SubsysMDev = &libvirtxml.DomainHostdevSubsysMDev{
			Model: model, Source: &libvirtxml.DomainHostdevSubsysMDevSource{Address: &libvirtxml.DomainAddressMDev{UUID: facts.MDev}},
		}
	case facts.USB != nil:
		device.SubsysUSB = &libvirtxml.DomainHostdevSubsysUSB{Source: &libvirtxml.DomainHostdevSubsysUSBSource{
			Address: &libvirtxml.DomainAddressUSB{Bus: &facts.USB.Bus, Device: &facts.USB.Device},
		}}
	default:
		return nil, invalid(at.Child("name"), "the device given for %q has no address", name)
	}
	b.dom.Devices.Hostdevs = append(b.dom.Devices.Hostdevs, device)
	return &b.dom.Devices.Hostdevs[len(b.dom.Devices.Hostdevs)-1], nil
}

// sriov passes the virtual function behind an interface. Its MAC and VLAN are the CNI plugin's work.
func (b *builder) sriov(i int) error {
	spec, at := &b.spec.Devices.Interfaces[i], interfacePath(i)
	device, err := b.hostDevice(spec.Name, "ua-sriov-", at)
	if err != nil {
		return err
	}
	if spec.BootOrder != nil && *spec.BootOrder > 0 {
		device.Boot = &libvirtxml.DomainDeviceBoot{Order: *spec.BootOrder}
	}
	if spec.ACPIIndex > 0 {
		device.ACPI = &libvirtxml.DomainDeviceACPI{Index: uint(spec.ACPIIndex)}
	}
	if spec.PciAddress != "" {
		device.Address, err = pciAddress(spec.PciAddress, at.Child("pciAddress"))
	}
	return err
}
