package metrics

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/server/controller/condition"
)

// instance tells of one VMI.
func (s sink) instance(vmi *v1.VirtualMachineInstance, outdated bool) {
	id := []label{{"node", vmi.Status.NodeName}, {"namespace", vmi.Namespace}, {"name", vmi.Name}}
	os := &vmi.Status.GuestOSInfo
	migratable := condition.Is(vmi, v1.VirtualMachineInstanceIsMigratable, corev1.ConditionTrue)
	s.gauge("kubevirt_vmi_info", "Information about VirtualMachineInstances.", 1, append(slices.Clone(id),
		label{"phase", string(phaseOf(vmi))},
		label{"os", orNone(vmi.Annotations[annotationOS])}, label{"workload", orNone(vmi.Annotations[annotationWorkload])},
		label{"flavor", orNone(vmi.Annotations[annotationFlavor])},
		label{"instance_type", orNone(first(vmi.Annotations[v1.InstancetypeAnnotation], vmi.Annotations[v1.ClusterInstancetypeAnnotation]))},
		label{"preference", orNone(first(vmi.Annotations[v1.PreferenceAnnotation], vmi.Annotations[v1.ClusterPreferenceAnnotation]))},
		label{"guest_os_kernel_release", os.KernelRelease}, label{"guest_os_machine", os.Machine}, label{"guest_os_arch", os.Machine},
		label{"guest_os_name", os.Name}, label{"guest_os_version_id", os.VersionID},
		label{"evictable", strconv.FormatBool(!stuck(vmi, migratable))}, label{"outdated", strconv.FormatBool(outdated)},
		label{"vmi_pod", podOf(vmi)}, label{"status_reason", vmi.Status.Reason}))
	nonEvictable := float64(0)
	if stuck(vmi, migratable) {
		nonEvictable = 1
	}
	s.gauge("kubevirt_vmi_non_evictable", "Indication for a VirtualMachine that its eviction strategy is set to Live Migration but is not migratable.", nonEvictable, id)
	for _, i := range vmi.Status.Interfaces {
		for _, ip := range i.IPs {
			s.gauge("kubevirt_vmi_status_addresses", "The addresses of a VirtualMachineInstance. This metric provides the address of an available network interface.", 1,
				append(slices.Clone(id), label{"network_name", i.Name}, label{"address", ip}, label{"type", "InternalIP"}))
		}
	}
	for _, i := range vmi.Spec.Domain.Devices.Interfaces {
		s.gauge("kubevirt_vmi_vnic_info", "Details of VirtualMachineInstance vNIC interfaces.", 1, append([]label{{"name", vmi.Name}, {"namespace", vmi.Namespace}},
			label{"vnic_name", i.Name}, label{"binding_name", binding(i)}, label{"network", network(vmi, i.Name)}, label{"model", orNone(i.Model)}))
	}
	if m := vmi.Status.Memory; m != nil && m.MemoryOverhead != nil {
		s.gauge("kubevirt_vmi_launcher_memory_overhead_bytes", "Estimation of the memory amount required for virt-launcher's infrastructure components (e.g. libvirt, QEMU).",
			float64(m.MemoryOverhead.Value()), []label{{"namespace", vmi.Namespace}, {"name", vmi.Name}})
	}
	s.ownMigration(vmi)
}

// phaseOf is the phase in the words of the metric.
func phaseOf(vmi *v1.VirtualMachineInstance) v1.VirtualMachineInstancePhase {
	if vmi.Status.Phase == "" {
		return v1.VirtualMachineInstancePhase("unset")
	}
	return v1.VirtualMachineInstancePhase(strings.ToLower(string(vmi.Status.Phase)))
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// stuck tells that a guest shall leave a node that is drained and cannot.
func stuck(vmi *v1.VirtualMachineInstance, migratable bool) bool {
	e := vmi.Spec.EvictionStrategy
	return e != nil && *e == v1.EvictionStrategyLiveMigrate && !migratable
}

// podOf is the UID of the pod on the guest's node.
func podOf(vmi *v1.VirtualMachineInstance) string {
	for uid, node := range vmi.Status.ActivePods {
		if node == vmi.Status.NodeName {
			return string(uid)
		}
	}
	return ""
}

func binding(i v1.Interface) string {
	switch {
	case i.Masquerade != nil:
		return "masquerade"
	case i.Bridge != nil:
		return "bridge"
	case i.SRIOV != nil:
		return "sriov"
	case i.PasstBinding != nil:
		return "passt"
	case i.Binding != nil:
		return i.Binding.Name
	}
	return "unknown"
}

func network(vmi *v1.VirtualMachineInstance, name string) string {
	for _, n := range vmi.Spec.Networks {
		switch {
		case n.Name != name:
		case n.Pod != nil:
			return "pod networking"
		case n.Multus != nil:
			return n.Multus.NetworkName
		}
	}
	return none
}

// ownMigration tells when the VMI's last migration was.
func (s sink) ownMigration(vmi *v1.VirtualMachineInstance) {
	m := vmi.Status.MigrationState
	if m == nil {
		return
	}
	id := []label{{"namespace", vmi.Namespace}, {"name", vmi.Name}, {"migration_name", string(m.MigrationUID)}}
	if m.StartTimestamp != nil {
		s.gauge("kubevirt_vmi_migration_start_time_seconds", "The time at which the migration started.", float64(m.StartTimestamp.Unix()), id)
	}
	if m.EndTimestamp != nil {
		status := "succeeded"
		if m.Failed {
			status = "failed"
		}
		s.gauge("kubevirt_vmi_migration_end_time_seconds", "The time at which the migration ended.", float64(m.EndTimestamp.Unix()), append(slices.Clone(id), label{"status", status}))
	}
}

// migrations counts migrations by how far they are.
func (s sink) migrations(list []v1.VirtualMachineInstanceMigration) {
	count := map[string]float64{"pending": 0, "scheduling": 0, "running": 0, "unset": 0}
	for i := range list {
		m := &list[i]
		id := []label{{"vmi", m.Spec.VMIName}, {"namespace", m.Namespace}}
		switch m.Status.Phase {
		case v1.MigrationPhaseUnset:
			count["unset"]++
		case v1.MigrationPending:
			count["pending"]++
		case v1.MigrationScheduling, v1.MigrationScheduled, v1.MigrationPreparingTarget, v1.MigrationTargetReady:
			count["scheduling"]++
		case v1.MigrationRunning:
			count["running"]++
		case v1.MigrationSucceeded:
			s.gauge("kubevirt_vmi_migration_succeeded", "Indicates if the VMI migration succeeded.", 1, append(id, label{"vmim", m.Name}))
		case v1.MigrationFailed:
			s.gauge("kubevirt_vmi_migration_failed", "Indicates if the VMI migration failed.", 1, append(id, label{"vmim", m.Name}))
		}
	}
	for phase, n := range count {
		s.gauge("kubevirt_vmi_migrations_in_"+phase+"_phase", "Number of current "+phase+" migrations.", n, nil)
	}
}
