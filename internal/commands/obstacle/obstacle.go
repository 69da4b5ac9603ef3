// Package obstacle says what keeps a running machine from moving to another node, with the cure, and which nodes could take it.
package obstacle

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	kubevirtv1 "kubevirt.io/api/core/v1"
)

// Obstacle is one reason why a machine cannot move.
type Obstacle struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
	Cure    string `json:"cure"`
}

// Of gives everything about the machine itself that keeps it from moving; moving is an unfinished migration of it, if there is one.
func Of(vmi *kubevirtv1.VirtualMachineInstance, moving *kubevirtv1.VirtualMachineInstanceMigration) []Obstacle {
	if vmi == nil || vmi.IsFinal() || vmi.Status.Phase == kubevirtv1.VmPhaseUnset {
		return []Obstacle{{"NotRunning", "it is not running", "start it: virtctl start; a stopped machine starts on any node"}}
	}
	var all []Obstacle
	if vmi.Status.Phase != kubevirtv1.Running {
		all = append(all, Obstacle{"NotRunning", fmt.Sprintf("it is %s, not Running yet", vmi.Status.Phase), "wait for it: virtctl wait --for running"})
	}
	if vmi.DeletionTimestamp != nil {
		all = append(all, Obstacle{"Stopping", "it is being stopped", "let it stop, and start it again"})
	}
	if moving != nil {
		all = append(all, Obstacle{
			"Migrating", fmt.Sprintf("migration %s is %s already", moving.Name, phase(moving)), "wait for it, or end it: virtctl migrate-cancel",
		})
	}
	all = append(all, ofNetwork(vmi)...)
	all = append(all, ofHardware(vmi)...)
	all = append(all, ofVolumes(vmi)...)
	return append(all, ofCondition(vmi, all)...)
}

func phase(m *kubevirtv1.VirtualMachineInstanceMigration) string {
	if m.Status.Phase == kubevirtv1.MigrationPhaseUnset {
		return "waiting"
	}
	return string(m.Status.Phase)
}

// ofCondition is what the machine's node says, unless that was found already.
func ofCondition(vmi *kubevirtv1.VirtualMachineInstance, known []Obstacle) []Obstacle {
	for _, c := range vmi.Status.Conditions {
		if c.Type != kubevirtv1.VirtualMachineInstanceIsMigratable || c.Status != corev1.ConditionFalse {
			continue
		}
		if slices.ContainsFunc(known, func(o Obstacle) bool { return o.Reason == c.Reason }) {
			return nil
		}
		return []Obstacle{{c.Reason, c.Message, cure(c.Reason)}}
	}
	return nil
}

func cure(reason string) string {
	switch reason {
	case kubevirtv1.VirtualMachineInstanceReasonCPUModeNotMigratable:
		return "name a CPU model that every node has in spec.template.spec.domain.cpu.model, and restart it"
	case kubevirtv1.VirtualMachineInstanceReasonNoTSCFrequencyMigratable:
		return "remove the invariant TSC from spec.template.spec.domain.cpu.features, and restart it"
	case kubevirtv1.VirtualMachineInstanceReasonPRNotMigratable:
		return "remove the SCSI reservation from its disk, and restart it"
	}
	return "see \"virtctl describe\" for the whole condition"
}

func ofNetwork(vmi *kubevirtv1.VirtualMachineInstance) []Obstacle {
	var all []Obstacle
	networks := map[string]kubevirtv1.Network{}
	for _, n := range vmi.Spec.Networks {
		networks[n.Name] = n
	}
	_, allowed := vmi.Annotations[kubevirtv1.AllowPodBridgeNetworkLiveMigrationAnnotation]
	for _, i := range vmi.Spec.Domain.Devices.Interfaces {
		switch {
		case i.SRIOV != nil:
			all = append(all, Obstacle{
				kubevirtv1.VirtualMachineInstanceReasonHostDeviceNotMigratable,
				fmt.Sprintf("network card %q is a piece of the node's hardware (SR-IOV)", i.Name), "use a bridge binding for it, and restart it",
			})
		case networks[i.Name].Pod != nil && i.Bridge != nil && !allowed:
			all = append(all, Obstacle{
				kubevirtv1.VirtualMachineInstanceReasonInterfaceNotMigratable,
				fmt.Sprintf("network card %q is bridged to the pod network, whose address belongs to the node", i.Name),
				"use masquerade instead of bridge for it and restart it, or set the annotation " +
					kubevirtv1.AllowPodBridgeNetworkLiveMigrationAnnotation + " on the template if the network keeps addresses",
			})
		}
	}
	return all
}

func ofHardware(vmi *kubevirtv1.VirtualMachineInstance) []Obstacle {
	var all []Obstacle
	d := &vmi.Spec.Domain
	device := func(kind, name string) {
		all = append(all, Obstacle{
			kubevirtv1.VirtualMachineInstanceReasonHostDeviceNotMigratable, fmt.Sprintf("%s %q is a piece of the node's hardware", kind, name),
			"remove it and restart the machine, or stop it and start it on the other node",
		})
	}
	for _, h := range d.Devices.HostDevices {
		device("host device", h.Name)
	}
	for _, g := range d.Devices.GPUs {
		device("GPU", g.Name)
	}
	if d.LaunchSecurity != nil {
		reason := kubevirtv1.VirtualMachineInstanceReasonSecureExecutionNotMigratable
		switch {
		case d.LaunchSecurity.TDX != nil:
			reason = kubevirtv1.VirtualMachineInstanceReasonTDXNotMigratable
		case d.LaunchSecurity.SEV != nil || d.LaunchSecurity.SNP != nil:
			reason = kubevirtv1.VirtualMachineInstanceReasonSEVNotMigratable
		}
		all = append(all, Obstacle{reason, "its memory is encrypted for the node's processor", "stop it and start it on the other node"})
	}
	if f := d.Features; f != nil && f.HypervPassthrough != nil && f.HypervPassthrough.Enabled != nil && *f.HypervPassthrough.Enabled {
		all = append(all, Obstacle{
			kubevirtv1.VirtualMachineInstanceReasonHypervPassthroughNotMigratable, "it has whatever Hyper-V features its node offers",
			"name the features it needs in spec.template.spec.domain.features.hyperv, and restart it",
		})
	}
	return all
}

func ofVolumes(vmi *kubevirtv1.VirtualMachineInstance) []Obstacle {
	claims := map[string]*kubevirtv1.PersistentVolumeClaimInfo{}
	for _, v := range vmi.Status.VolumeStatus {
		claims[v.Name] = v.PersistentVolumeClaimInfo
	}
	var all []Obstacle
	for _, v := range vmi.Spec.Volumes {
		claim := ""
		switch {
		case v.PersistentVolumeClaim != nil:
			claim = v.PersistentVolumeClaim.ClaimName
		case v.DataVolume != nil:
			claim = v.DataVolume.Name
		case v.HostDisk != nil && (v.HostDisk.Shared == nil || !*v.HostDisk.Shared):
			all = append(all, Obstacle{
				kubevirtv1.VirtualMachineInstanceReasonDisksNotMigratable, fmt.Sprintf("volume %q is a file on its node", v.Name),
				"put it on a claim that several nodes can use at once (ReadWriteMany)",
			})
		}
		info := claims[v.Name]
		if claim == "" || info != nil && slices.Contains(info.AccessModes, corev1.ReadWriteMany) {
			continue
		}
		all = append(all, Obstacle{
			kubevirtv1.VirtualMachineInstanceReasonDisksNotMigratable,
			fmt.Sprintf("volume %q (claim %s) cannot be used by two nodes at once: it is not ReadWriteMany", v.Name, claim),
			"copy it to a claim with access mode ReadWriteMany, or stop the machine and start it on the other node",
		})
	}
	return all
}
