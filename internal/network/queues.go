package network

import v1 "kubevirt.io/api/core/v1"

// maxQueues is what the kernel's tap driver takes.
const maxQueues = 256

// queues is 0 for a plain tap, else one queue per virtual processor.
func queues(vmi *v1.VirtualMachineInstance, iface *v1.Interface) int {
	multi := vmi.Spec.Domain.Devices.NetworkInterfaceMultiQueue
	if multi == nil || !*multi || iface.Model != "" && iface.Model != v1.VirtIO {
		return 0
	}
	n := vcpus(vmi)
	if n <= 1 {
		return 0
	}
	return min(n, maxQueues)
}

func vcpus(vmi *v1.VirtualMachineInstance) int {
	if cpu := vmi.Spec.Domain.CPU; cpu != nil && (cpu.Sockets != 0 || cpu.Cores != 0 || cpu.Threads != 0) {
		return int(max(cpu.Sockets, 1)) * int(max(cpu.Cores, 1)) * int(max(cpu.Threads, 1))
	}
	resources := vmi.Spec.Domain.Resources
	if n := resources.Requests.Cpu().Value(); n > 0 {
		return int(n)
	}
	return int(max(resources.Limits.Cpu().Value(), 1))
}
