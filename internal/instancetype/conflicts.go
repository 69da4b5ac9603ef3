package instancetype

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"
)

// Conflicts are the fields that both the machine and its instance type set.
func (t Types) Conflicts(root *field.Path, spec *v1.VirtualMachineInstanceSpec) []*field.Path {
	it := t.Instancetype
	if it == nil {
		return nil
	}
	var out []*field.Path
	clash := func(both bool, path *field.Path) {
		if both {
			out = append(out, path)
		}
	}
	domain := root.Child("domain")
	for key := range it.NodeSelector {
		_, own := spec.NodeSelector[key]
		clash(own, root.Child("nodeSelector").Key(key))
	}
	clash(it.SchedulerName != "" && spec.SchedulerName != "", root.Child("schedulerName"))
	out = append(out, t.cpuConflicts(domain.Child("cpu"), spec.Domain.CPU)...)
	if m := spec.Domain.Memory; m != nil {
		memory := domain.Child("memory")
		clash(m.Guest != nil, memory.Child("guest"))
		clash(m.Hugepages != nil && it.Memory.Hugepages != nil, memory.Child("hugepages"))
		clash(m.MaxGuest != nil && it.Memory.MaxGuest != nil, memory.Child("maxGuest"))
	}
	resources := domain.Child("resources")
	for name, list := range map[string]corev1.ResourceList{"requests": spec.Domain.Resources.Requests, "limits": spec.Domain.Resources.Limits} {
		for _, kind := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			_, own := list[kind]
			clash(own, resources.Child(name).Child(string(kind)))
		}
	}
	devices := domain.Child("devices")
	clash(len(it.GPUs) > 0 && len(spec.Domain.Devices.GPUs) > 0, devices.Child("gpus"))
	clash(len(it.HostDevices) > 0 && len(spec.Domain.Devices.HostDevices) > 0, devices.Child("hostDevices"))
	clash(it.IOThreadsPolicy != nil && spec.Domain.IOThreadsPolicy != nil, domain.Child("ioThreadsPolicy"))
	clash(it.IOThreads != nil && spec.Domain.IOThreads != nil, domain.Child("ioThreads"))
	clash(it.LaunchSecurity != nil && spec.Domain.LaunchSecurity != nil, domain.Child("launchSecurity"))
	return out
}

func (t Types) cpuConflicts(path *field.Path, cpu *v1.CPU) []*field.Path {
	if cpu == nil {
		return nil
	}
	it := t.Instancetype.CPU
	var out []*field.Path
	clash := func(both bool, name string) {
		if both {
			out = append(out, path.Child(name))
		}
	}
	if !t.ownTopologyAllowed() {
		clash(cpu.Sockets != 0, "sockets")
		clash(cpu.Cores != 0, "cores")
		clash(cpu.Threads != 0, "threads")
	}
	clash(cpu.MaxSockets != 0 && it.MaxSockets != nil, "maxSockets")
	clash(cpu.Model != "" && it.Model != nil, "model")
	clash(cpu.DedicatedCPUPlacement && it.DedicatedCPUPlacement != nil, "dedicatedCpuPlacement")
	clash(cpu.IsolateEmulatorThread && it.IsolateEmulatorThread != nil, "isolateEmulatorThread")
	clash(cpu.NUMA != nil && it.NUMA != nil, "numa")
	clash(cpu.Realtime != nil && it.Realtime != nil, "realtime")
	return out
}

// ownTopologyAllowed: with the topology "any" a machine may lay out the instance type's processors itself.
func (t Types) ownTopologyAllowed() bool {
	if t.Preference == nil || t.Preference.CPU == nil || t.Preference.CPU.PreferredCPUTopology == nil {
		return false
	}
	kind := *t.Preference.CPU.PreferredCPUTopology
	return kind == "any" || kind == "preferAny"
}

// Unmet says what the preference requires and the machine, with its instance type applied, does not have.
func (t Types) Unmet(root *field.Path, spec *v1.VirtualMachineInstanceSpec) field.ErrorList {
	if t.Preference == nil || t.Preference.Requirements == nil {
		return nil
	}
	need := t.Preference.Requirements
	var out field.ErrorList
	if need.CPU != nil {
		have := uint32(0)
		if spec.Domain.CPU != nil {
			have = product(spec.Domain.CPU)
		}
		if have < need.CPU.Guest {
			out = append(out, field.Invalid(root.Child("domain", "cpu"), have, fmt.Sprintf("insufficient CPU resources: the preference needs at least %d vCPUs", need.CPU.Guest)))
		}
	}
	if need.Memory != nil {
		memory := spec.Domain.Memory
		if memory == nil || memory.Guest == nil || memory.Guest.Cmp(need.Memory.Guest) < 0 {
			out = append(out, field.Invalid(root.Child("domain", "memory", "guest"), guest(memory), fmt.Sprintf("insufficient Memory resources: the preference needs at least %s", need.Memory.Guest.String())))
		}
	}
	if need.Architecture != nil && spec.Architecture != "" && spec.Architecture != *need.Architecture {
		out = append(out, field.Invalid(root.Child("architecture"), spec.Architecture, "the preference needs "+*need.Architecture))
	}
	return out
}

func guest(m *v1.Memory) string {
	if m == nil || m.Guest == nil {
		return "none"
	}
	return m.Guest.String()
}
