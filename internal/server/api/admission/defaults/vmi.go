package defaults

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/clusterconfig"
)

// launcherUser is the uid of QEMU in launcher pods.
const launcherUser = 107

// VMI completes a VMI that is being created. Its status is ours from the beginning: users have no say in it.
func VMI(vmi *v1.VirtualMachineInstance, cluster clusterconfig.Config, now metav1.Time) error {
	if err := Spec(&vmi.Spec, cluster); err != nil {
		return err
	}
	hotplug(vmi, cluster)
	PCITopology(&vmi.ObjectMeta, vmi.Spec.Domain.Machine)
	if !slices.Contains(vmi.Finalizers, v1.VirtualMachineInstanceFinalizer) {
		vmi.Finalizers = append(vmi.Finalizers, v1.VirtualMachineInstanceFinalizer)
	}
	cpu := vmi.Spec.Domain.CPU
	vmi.Status.Phase = v1.Pending
	vmi.Status.PhaseTransitionTimestamps = []v1.VirtualMachineInstancePhaseTransitionTimestamp{
		{Phase: v1.Pending, PhaseTransitionTimestamp: now},
	}
	vmi.Status.CurrentCPUTopology = &v1.CPUTopology{Cores: cpu.Cores, Sockets: cpu.Sockets, Threads: cpu.Threads}
	if m := vmi.Spec.Domain.Memory; m != nil && m.Guest != nil {
		guest := func() *resource.Quantity { q := m.Guest.DeepCopy(); return &q }
		vmi.Status.Memory = &v1.MemoryStatus{GuestAtBoot: guest(), GuestCurrent: guest(), GuestRequested: guest()}
	}
	vmi.Status.RuntimeUser = launcherUser
	if cluster.Gate(clusterconfig.GateRoot) {
		vmi.Status.RuntimeUser = 0
	}
	return nil
}

// PCITopology marks guests that have their PCI ports where newer ones have them. What is unmarked is older.
func PCITopology(meta *metav1.ObjectMeta, machine *v1.Machine) {
	if machine == nil || (!strings.Contains(machine.Type, "q35") && !strings.HasPrefix(machine.Type, "virt")) {
		return
	}
	if _, set := meta.Annotations[v1.PciTopologyVersionAnnotation]; set {
		return
	}
	if meta.Annotations == nil {
		meta.Annotations = map[string]string{}
	}
	meta.Annotations[v1.PciTopologyVersionAnnotation] = v1.PciTopologyVersionV3
}

const maxHotplugCPUs = 512

// hotplug reserves what may be plugged in later: QEMU must know it from the start.
func hotplug(vmi *v1.VirtualMachineInstance, cluster clusterconfig.Config) {
	if cluster.RolloutStrategy != v1.VMRolloutStrategyLiveUpdate || vmi.Spec.Architecture == "arm64" {
		return
	}
	hotplugCPU(vmi.Spec.Domain.CPU, cluster)
	m := vmi.Spec.Domain.Memory
	if m == nil || m.Guest == nil || m.MaxGuest != nil {
		return
	}
	limit := cluster.Live.MaxGuest
	if limit == nil {
		most := int64(1) << 62 / int64(cluster.Live.MaxHotplugRatio)
		if m.Guest.Value() > most {
			return
		}
		limit = resource.NewQuantity(m.Guest.Value()*int64(cluster.Live.MaxHotplugRatio), resource.BinarySI)
	}
	if MemoryHotplug(&vmi.Spec, limit) == nil {
		q := limit.DeepCopy()
		m.MaxGuest = &q
	}
}

func hotplugCPU(cpu *v1.CPU, cluster clusterconfig.Config) {
	if cpu.MaxSockets != 0 {
		return
	}
	if cluster.Live.MaxCPUSockets != nil && *cluster.Live.MaxCPUSockets > 0 {
		cpu.MaxSockets = max(*cluster.Live.MaxCPUSockets, cpu.Sockets)
		return
	}
	perSocket := uint64(cpu.Cores) * uint64(cpu.Threads)
	sockets := uint64(cpu.Sockets) * uint64(cluster.Live.MaxHotplugRatio)
	if perSocket > 0 && sockets*perSocket > maxHotplugCPUs {
		sockets = maxHotplugCPUs / perSocket
	}
	cpu.MaxSockets = max(uint32(min(sockets, maxCPUs)), cpu.Sockets)
}

// Alignments of pluggable memory in bytes.
const (
	gibibyte       = 1 << 30
	pluggableBlock = 2 << 20
)

// MemoryHotplug says why memory cannot be plugged into a guest of this spec up to the limit; nil when it can.
func MemoryHotplug(spec *v1.VirtualMachineInstanceSpec, limit *resource.Quantity) error {
	memory, cpu := spec.Domain.Memory, spec.Domain.CPU
	align := int64(pluggableBlock)
	if memory != nil && memory.Hugepages != nil && memory.Hugepages.PageSize == "1Gi" {
		align = gibibyte
	}
	switch {
	case spec.Architecture != "amd64":
		return fmt.Errorf("memory hotplug is only available for x86_64 VMs")
	case spec.Domain.LaunchSecurity != nil:
		return fmt.Errorf("memory hotplug is not compatible with encrypted VMs")
	case cpu != nil && cpu.Realtime != nil:
		return fmt.Errorf("memory hotplug is not compatible with realtime VMs")
	case cpu != nil && cpu.NUMA != nil && cpu.NUMA.GuestMappingPassthrough != nil:
		return fmt.Errorf("memory hotplug is not compatible with guest mapping passthrough")
	case memory == nil || memory.Guest == nil:
		return fmt.Errorf("guest memory must be configured to enable memory hotplug")
	case memory.Guest.Value() < gibibyte:
		return fmt.Errorf("memory hotplug is only available for VMs with at least 1Gi of guest memory")
	case limit.Cmp(*memory.Guest) < 0:
		return fmt.Errorf("guest memory is bigger than maximum allowed")
	case memory.Guest.Value()%align != 0:
		return fmt.Errorf("guest memory must be %dMi aligned", align>>20)
	case limit.Value()%align != 0:
		return fmt.Errorf("maxGuest must be %dMi aligned", align>>20)
	}
	return nil
}
