package rules

import (
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/claims"
	"virtctl/internal/clusterconfig"
)

// VMI judges a VMI that is created.
func VMI(vmi *v1.VirtualMachineInstance, cluster clusterconfig.Config, platform bool) []metav1.StatusCause {
	c := &Check{cluster: cluster}
	domainName(c, &vmi.ObjectMeta)
	metadata(c, field.NewPath("metadata"), &vmi.ObjectMeta, platform)
	return judge(c, field.NewPath("spec"), &vmi.Spec)
}

// VMIUpdate judges a change of a VMI by a user or by the platform's controllers. A running machine cannot become another
// one: users change the VM, and what can be changed while it runs comes through the platform.
func VMIUpdate(before, after *v1.VirtualMachineInstance, cluster clusterconfig.Config, platform bool) []metav1.StatusCause {
	c := &Check{cluster: cluster}
	spec := field.NewPath("spec")
	changed := !equality.Semantic.DeepEqual(before.Spec, after.Spec)
	if !platform {
		if changed {
			c.unsupported(spec, "update of VMI object is restricted: change the VM, or use virtctl")
		}
		reservedLabelChanges(c, before.Labels, after.Labels)
		return c.causes
	}
	if !changed {
		return nil
	}
	liveCPU(c, spec.Child("domain", "cpu"), before.Spec.Domain.CPU, after.Spec.Domain.CPU)
	liveMemory(c, spec.Child("domain", "memory"), before.Spec.Domain.Memory, after.Spec.Domain.Memory)
	volumes(c, spec, &after.Spec)
	disks(c, spec, &after.Spec)
	diskTargets(c, spec, &after.Spec)
	bootOrder(c, spec, &after.Spec)
	permanent(c, spec, &before.Spec, &after.Spec)
	return c.causes
}

func liveCPU(c *Check, at *field.Path, before, after *v1.CPU) {
	if before == nil || after == nil {
		return
	}
	if before.MaxSockets != after.MaxSockets {
		c.unsupported(at.Child("maxSockets"), "CPU topology maxSockets changed")
	}
	if after.MaxSockets > 0 && after.Sockets > after.MaxSockets {
		c.invalid(at.Child("sockets"), "Number of sockets in CPU topology is greater than the maximum sockets allowed")
	}
	if before.Cores != after.Cores || before.Threads != after.Threads {
		c.unsupported(at, "only the number of sockets can change while a VM runs")
	}
}

func liveMemory(c *Check, at *field.Path, before, after *v1.Memory) {
	if before == nil || after == nil {
		return
	}
	if !equality.Semantic.DeepEqual(before.MaxGuest, after.MaxGuest) {
		c.unsupported(at.Child("maxGuest"), "Memory maxGuest changed")
	}
	if after.Guest != nil && after.MaxGuest != nil && after.Guest.Cmp(*after.MaxGuest) > 0 {
		c.invalid(at.Child("guest"), "Guest memory is greater than the configured maxGuest memory")
	}
}

// permanent refuses that a volume which was there from the start goes, or becomes another.
func permanent(c *Check, at *field.Path, before, after *v1.VirtualMachineInstanceSpec) {
	for _, old := range before.Volumes {
		if claims.Pluggable(old.VolumeSource) || old.MemoryDump != nil {
			continue
		}
		now := volumeNamed(after, old.Name)
		switch {
		case now == nil:
			c.invalid(at.Child("volumes"), "volume %s is not hotpluggable, it cannot be removed while the VM runs", old.Name)
		case !equality.Semantic.DeepEqual(old, *now) && !migratable(old):
			c.invalid(at.Child("volumes"), "volume %s is not hotpluggable, it cannot change while the VM runs", old.Name)
		}
	}
}

// migratable volumes may get another claim: their contents move along.
func migratable(v v1.Volume) bool { return v.PersistentVolumeClaim != nil || v.DataVolume != nil }

// AgentUpdate judges a change of a VMI by a node agent. An agent that was taken over must not reach beyond its own node: it
// may neither take VMIs from other nodes nor send its own to where it likes (CVE-2023-26484, CVE-2025-64436).
func AgentUpdate(before, after *v1.VirtualMachineInstance, node string) []metav1.StatusCause {
	c := &Check{}
	status := field.NewPath("status")
	if !equality.Semantic.DeepEqual(before.Spec, after.Spec) {
		c.forbidden(field.NewPath("spec"), "virt-handler must not change the spec of a VMI")
	}
	if after.Status.NodeName != before.Status.NodeName && after.Status.NodeName != node {
		c.forbidden(status.Child("nodeName"), "virt-handler on node %q must not move a VMI to node %q", node, after.Status.NodeName)
	}
	if l := after.Labels[v1.NodeNameLabel]; l != before.Labels[v1.NodeNameLabel] && l != node {
		c.forbidden(field.NewPath("metadata", "labels"), "virt-handler on node %q must not label a VMI with node %q", node, l)
	}
	if targetNode(after) != targetNode(before) {
		c.forbidden(status.Child("migrationState", "targetNode"), "virt-handler must not choose where a VMI migrates to")
	}
	if e := after.Status.EvacuationNodeName; e != "" && e != before.Status.EvacuationNodeName {
		c.forbidden(status.Child("evacuationNodeName"), "virt-handler must not evacuate a VMI")
	}
	return c.causes
}

func targetNode(vmi *v1.VirtualMachineInstance) string {
	if vmi.Status.MigrationState == nil {
		return ""
	}
	return vmi.Status.MigrationState.TargetNode
}

// Agents gives the nodes whose agents may write a VMI.
func Agents(vmi *v1.VirtualMachineInstance) []string {
	var nodes []string
	for _, n := range []string{vmi.Status.NodeName, targetNode(vmi)} {
		if n != "" {
			nodes = append(nodes, n)
		}
	}
	return nodes
}
