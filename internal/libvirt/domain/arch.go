package domain

import (
	v1 "kubevirt.io/api/core/v1"
)

// arch is what differs between guest architectures.
type arch struct {
	// name is libvirt's.
	name string
	// machine is the default machine type, pcie tells that it has PCI Express root ports.
	machine string
	pcie    bool
	// nonTransitional is the virtio model of a modern-only device, transitional of one that also speaks virtio 0.9. Both are
	// "virtio" where the difference does not exist.
	nonTransitional, transitional string
	diskBus                       v1.DiskBus
	video                         string
	usb                           bool
	// x86 features: APIC, SMM, Hyper-V, vmport, PIT and so on.
	x86 bool
	// watchdogs, sounds, tpm say which devices exist.
	watchdogI6300ESB, watchdogDiag288, tpm, sound, acpi, smbios, efiOnly bool
	// cpuModels tells that named CPU models and host-model exist.
	cpuModels bool
	// maxVCPUs is what the machine type allows at most.
	maxVCPUs uint64
}

// architectures by Kubernetes' (and Go's) name.
func architecture(name string) (arch, bool) {
	switch name {
	case "", "amd64":
		return arch{
			name: "x86_64", machine: "q35", pcie: true, nonTransitional: "virtio-non-transitional", transitional: "virtio-transitional",
			diskBus: v1.DiskBusSATA, video: "vga", usb: true, x86: true, watchdogI6300ESB: true, tpm: true, sound: true, acpi: true,
			smbios: true, cpuModels: true, maxVCPUs: 1024,
		}, true
	case "arm64":
		return arch{
			name: "aarch64", machine: "virt", pcie: true, nonTransitional: "virtio", transitional: "virtio",
			diskBus: v1.DiskBusVirtio, video: "virtio", usb: true, tpm: true, acpi: true, smbios: true, efiOnly: true, maxVCPUs: 512,
		}, true
	case "s390x":
		return arch{
			name: "s390x", machine: "s390-ccw-virtio", nonTransitional: "virtio", transitional: "virtio",
			diskBus: v1.DiskBusVirtio, video: "virtio", watchdogDiag288: true, cpuModels: true, maxVCPUs: 248,
		}, true
	}
	return arch{}, false
}
