package network

import (
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/libvirt/domain"
)

// maxQueues is what the kernel's tap driver takes.
const maxQueues = 256

// queues is 0 for a plain tap, else one queue per virtual processor.
func queues(vmi *v1.VirtualMachineInstance, iface *v1.Interface) int {
	multi := vmi.Spec.Domain.Devices.NetworkInterfaceMultiQueue
	if multi == nil || !*multi || iface.Model != "" && iface.Model != v1.VirtIO {
		return 0
	}
	n := domain.VCPUs(vmi)
	if n <= 1 {
		return 0
	}
	return int(min(n, maxQueues))
}
