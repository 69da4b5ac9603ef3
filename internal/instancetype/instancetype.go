package instancetype

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	v1 "kubevirt.io/api/core/v1"
	"kubevirt.io/api/instancetype/v1beta1"
)

func (t Types) applyInstancetype(spec *v1.VirtualMachineInstanceSpec) {
	it := t.Instancetype
	for key, value := range it.NodeSelector {
		if spec.NodeSelector == nil {
			spec.NodeSelector = map[string]string{}
		}
		spec.NodeSelector[key] = value
	}
	fillValue(&spec.SchedulerName, it.SchedulerName)
	t.applyCPU(spec)
	applyMemory(it.Memory, spec)
	d := &spec.Domain
	d.Devices.GPUs = append(d.Devices.GPUs, it.GPUs...)
	d.Devices.HostDevices = append(d.Devices.HostDevices, it.HostDevices...)
	fill(&d.IOThreadsPolicy, it.IOThreadsPolicy)
	fill(&d.IOThreads, it.IOThreads)
	fill(&d.LaunchSecurity, it.LaunchSecurity)
}

func (t Types) applyCPU(spec *v1.VirtualMachineInstanceSpec) {
	it := t.Instancetype.CPU
	if spec.Domain.CPU == nil {
		spec.Domain.CPU = &v1.CPU{}
	}
	cpu := spec.Domain.CPU
	cpu.Sockets, cpu.Cores, cpu.Threads = t.topology(it.Guest, cpu)
	if it.Model != nil {
		cpu.Model = *it.Model
	}
	if it.DedicatedCPUPlacement != nil {
		cpu.DedicatedCPUPlacement = *it.DedicatedCPUPlacement
	}
	if it.IsolateEmulatorThread != nil {
		cpu.IsolateEmulatorThread = *it.IsolateEmulatorThread
	}
	if it.MaxSockets != nil {
		cpu.MaxSockets = *it.MaxSockets
	}
	fill(&cpu.NUMA, it.NUMA)
	fill(&cpu.Realtime, it.Realtime)
}

// applyMemory leaves the memory open when the instance type does not say how much.
func applyMemory(it v1beta1.MemoryInstancetype, spec *v1.VirtualMachineInstanceSpec) {
	if it.Guest.IsZero() {
		return
	}
	if spec.Domain.Memory == nil {
		spec.Domain.Memory = &v1.Memory{}
	}
	guest := it.Guest.DeepCopy()
	memory := spec.Domain.Memory
	memory.Guest = &guest
	fill(&memory.Hugepages, it.Hugepages)
	if it.MaxGuest != nil {
		maximum := it.MaxGuest.DeepCopy()
		memory.MaxGuest = &maximum
	}
	if it.OvercommitPercent == 0 {
		return
	}
	if spec.Domain.Resources.Requests == nil {
		spec.Domain.Resources.Requests = corev1.ResourceList{}
	}
	// In single precision, as everybody who computes this number does (contract).
	request := int64(float32(guest.Value()) * (1 - float32(it.OvercommitPercent)/100))
	spec.Domain.Resources.Requests[corev1.ResourceMemory] = *resource.NewQuantity(request, resource.BinarySI)
}

// topology lays out the instance type's processors as the preference says: sockets unless told otherwise.
func (t Types) topology(count uint32, own *v1.CPU) (sockets, cores, threads uint32) {
	kind := v1beta1.Sockets
	var cpu *v1beta1.CPUPreferences
	if t.Preference != nil && t.Preference.CPU != nil {
		cpu = t.Preference.CPU
		if cpu.PreferredCPUTopology != nil {
			kind = *cpu.PreferredCPUTopology
		}
	}
	switch kind {
	case v1beta1.Cores, v1beta1.DeprecatedPreferCores:
		return 1, count, 1
	case v1beta1.Threads, v1beta1.DeprecatedPreferThreads:
		return 1, 1, count
	case v1beta1.Spread, v1beta1.DeprecatedPreferSpread:
		return t.spread(count, cpu)
	case v1beta1.Any, v1beta1.DeprecatedPreferAny:
		if product(own) == count {
			return max(own.Sockets, 1), max(own.Cores, 1), max(own.Threads, 1)
		}
	}
	return count, 1, 1
}

func product(cpu *v1.CPU) uint32 {
	return max(cpu.Sockets, 1) * max(cpu.Cores, 1) * max(cpu.Threads, 1)
}

const defaultRatio = 2

// spread lays processors out over two or three levels; Unspreadable refuses the counts for which there is no whole layout.
func (t Types) spread(count uint32, cpu *v1beta1.CPUPreferences) (sockets, cores, threads uint32) {
	ratio := uint32(defaultRatio)
	if t.Preference.PreferSpreadSocketToCoreRatio != 0 {
		ratio = t.Preference.PreferSpreadSocketToCoreRatio
	}
	across := v1beta1.SpreadAcrossSocketsCores
	if cpu.SpreadOptions != nil {
		if cpu.SpreadOptions.Ratio != nil {
			ratio = *cpu.SpreadOptions.Ratio
		}
		if cpu.SpreadOptions.Across != nil {
			across = *cpu.SpreadOptions.Across
		}
	}
	ratio = max(ratio, 1)
	switch across {
	case v1beta1.SpreadAcrossCoresThreads:
		return 1, max(count/2, 1), min(count, 2)
	case v1beta1.SpreadAcrossSocketsCoresThreads:
		return max(count/(ratio*2), 1), ratio, 2
	}
	return max(count/ratio, 1), min(ratio, count), 1
}
