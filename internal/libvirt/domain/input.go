package domain

import "virtctl/internal/libvirt/wire"

// Input is everything besides the VirtualMachineInstance that decides what its domain looks like.
type Input struct {
	// Disks says what the launcher made of each volume, by volume name. Every disk that is not hot-plugged needs an entry;
	// hot-plugged disks without one are left out and attached later with DiskDevice.
	Disks map[string]wire.DiskFacts
	// Interfaces is what the pod network looks like, by interface name.
	Interfaces map[string]Interface
	Host       Host
	Cluster    Cluster
	// CPUSet is the pod's exclusive processors, in ascending order; needed for dedicatedCpuPlacement.
	CPUSet []int
	// HostDevices are the devices the pod was given, by the name of the GPU, host device or SR-IOV interface that asked for
	// them.
	HostDevices map[string]HostDevice
	// StateClaim tells that the pod has the claim for the VM's state (NVRAM, TPM) mounted where the domain writes it, so that
	// persistent firmware and TPM keep their promise.
	StateClaim bool
}

// Interface is one guest interface's end in the pod.
type Interface struct {
	// Tap is the tap device, owned by the launcher's user. Unused for passt and SR-IOV.
	Tap string
	// MAC overrides the MAC of the spec (bridge binding takes the pod's).
	MAC string
	// MTU of the link, 0 if the default will do.
	MTU uint
	// Queues is how many queues the tap was made with; 0 and 1 mean a single queue.
	Queues uint
	// PodInterface is the pod's link that passt takes its addresses from; "eth0" when empty.
	PodInterface string
}

// Host is what the node and its launcher image can do.
type Host struct {
	// KVM tells that the pod was given devices.kubevirt.io/kvm; otherwise QEMU translates (TCG).
	KVM bool
	// Arch is the node's architecture in Go's terms; amd64 when empty.
	Arch string
	// Emulator is QEMU's path; libvirt chooses when empty.
	Emulator string
	Firmware Firmware
	// VhostNet tells that the pod was given devices.kubevirt.io/vhost-net.
	VhostNet bool
	// NUMA lists the node's memory nodes; needed for guestMappingPassthrough.
	NUMA []NUMANode
}

// NUMANode is one memory node of the host and its processors.
type NUMANode struct {
	ID   int
	CPUs []int
}

// Firmware names UEFI images in the launcher image. DebianFirmware gives the ones our launcher image has.
type Firmware struct {
	// Code and Vars boot without Secure Boot, SecureCode and SecureVars with it (keys enrolled).
	Code, Vars             string
	SecureCode, SecureVars string
}

// DebianFirmware is where Debian's ovmf and qemu-efi-aarch64 packages put the images.
func DebianFirmware(arch string) Firmware {
	if arch == "arm64" {
		return Firmware{
			Code: "/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd", Vars: "/usr/share/AAVMF/AAVMF_VARS.fd",
			SecureCode: "/usr/share/AAVMF/AAVMF_CODE.secboot.fd", SecureVars: "/usr/share/AAVMF/AAVMF_VARS.ms.fd",
		}
	}
	return Firmware{
		Code: "/usr/share/OVMF/OVMF_CODE_4M.fd", Vars: "/usr/share/OVMF/OVMF_VARS_4M.fd",
		SecureCode: "/usr/share/OVMF/OVMF_CODE_4M.ms.fd", SecureVars: "/usr/share/OVMF/OVMF_VARS_4M.ms.fd",
	}
}

// HostDevice is one device of the node. Exactly one of its fields is set.
type HostDevice struct {
	// PCI is an address like 0000:81:01.0, MDev a mediated device's UUID.
	PCI  string
	MDev string
	// USB is a bus and device number.
	USB *USBAddress
}

// USBAddress is a USB device's place on the node.
type USBAddress struct{ Bus, Device uint }

// Cluster is what the KubeVirt configuration says about every domain.
type Cluster struct {
	SMBIOS SMBIOS
	// MachineType is used when the VirtualMachineInstance names none; the architecture's default when empty.
	MachineType string
	// CPUModel is used when the VirtualMachineInstance names none; host-model when empty.
	CPUModel string
	// MemBalloonStatsPeriod is in seconds; nil means the contract's 10, and 0 turns statistics off.
	MemBalloonStatsPeriod *uint32
	// DisableFreePageReporting turns free page reporting off for every domain.
	DisableFreePageReporting bool
	// VGAForEFI gives EFI guests on amd64 a VGA display instead of bochs (annotation kubevirt.io/vga-display-efi-x86 of the
	// KubeVirt object).
	VGAForEFI bool
}

// SMBIOS is what guests read about their maker.
type SMBIOS struct {
	Manufacturer, Product, Version, SKU, Family string
}

func (s SMBIOS) withDefaults() SMBIOS {
	if s == (SMBIOS{}) {
		return SMBIOS{Manufacturer: "KubeVirt", Product: "None", Family: "KubeVirt"}
	}
	return s
}
