package status

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/claims"
)

// statePrefix begins the name of the claim that keeps a VM's TPM and firmware variables (contract). It is in the status, not in the spec.
const statePrefix = "persistent-state-for-"

// obstacle is why a guest cannot move.
type obstacle struct{ reason, message string }

// setMigratable says whether, and how, the guest can move to another node.
func setMigratable(vmi *v1.VirtualMachineInstance, status *v1.VirtualMachineInstanceStatus, o *Observed) {
	status.MigrationMethod = method(vmi, status)
	without := hardware(vmi, o)
	storage := without
	if without == nil {
		without = disks(vmi, status)
	}
	setCondition(status, verdict(v1.VirtualMachineInstanceIsMigratable, without), o.Now)
	setCondition(status, verdict(v1.VirtualMachineInstanceIsStorageLiveMigratable, storage), o.Now)
}

func verdict(kind v1.VirtualMachineInstanceConditionType, why *obstacle) condition {
	if why == nil {
		return condition{kind: kind, status: corev1.ConditionTrue}
	}
	return condition{kind: kind, status: corev1.ConditionFalse, reason: why.reason, message: why.message}
}

// hardware gives the first obstacle that is not a disk, in the contract's order.
func hardware(vmi *v1.VirtualMachineInstance, o *Observed) *obstacle {
	d := &vmi.Spec.Domain
	switch cpu := d.CPU; {
	case !interfacesMove(vmi):
		return &obstacle{
			v1.VirtualMachineInstanceReasonInterfaceNotMigratable,
			"cannot migrate VMI which does not use masquerade, bridge with " + v1.AllowPodBridgeNetworkLiveMigrationAnnotation +
				" VM annotation, or a migratable plugin to connect to the pod network",
		}
	case !o.HostModel && (cpu == nil || cpu.Model == "" || cpu.Model == v1.CPUModeHostModel):
		return &obstacle{
			v1.VirtualMachineInstanceReasonCPUModeNotMigratable,
			"the node does not allow host-model migration: it does not say what its host-model CPU is",
		}
	case len(d.Devices.HostDevices) > 0 || len(d.Devices.GPUs) > 0 || usesSRIOV(vmi):
		return &obstacle{v1.VirtualMachineInstanceReasonHostDeviceNotMigratable, "VMI uses a PCI host devices"}
	case d.LaunchSecurity != nil && d.LaunchSecurity.TDX != nil:
		return &obstacle{v1.VirtualMachineInstanceReasonTDXNotMigratable, "VMI uses TDX"}
	case d.LaunchSecurity != nil && (d.LaunchSecurity.SEV != nil || d.LaunchSecurity.SNP != nil):
		return &obstacle{v1.VirtualMachineInstanceReasonSEVNotMigratable, "VMI uses SEV"}
	case d.LaunchSecurity != nil:
		return &obstacle{v1.VirtualMachineInstanceReasonSecureExecutionNotMigratable, "VMI uses Secure Execution"}
	case d.Features != nil && d.Features.HypervPassthrough != nil && isTrue(d.Features.HypervPassthrough.Enabled):
		return &obstacle{v1.VirtualMachineInstanceReasonHypervPassthroughNotMigratable, "VMI uses hyperv passthrough"}
	case reservesSCSI(vmi):
		return &obstacle{v1.VirtualMachineInstanceReasonPRNotMigratable, "VMI uses SCSI persistent reservation"}
	}
	return nil
}

// interfacesMove tells whether the guest keeps its connection to the pod network when its pod changes.
func interfacesMove(vmi *v1.VirtualMachineInstance) bool {
	for _, n := range vmi.Spec.Networks {
		if n.Pod == nil {
			continue
		}
		for _, i := range vmi.Spec.Domain.Devices.Interfaces {
			if i.Name != n.Name {
				continue
			}
			_, allowed := vmi.Annotations[v1.AllowPodBridgeNetworkLiveMigrationAnnotation]
			return i.Masquerade != nil || i.PasstBinding != nil || i.Binding != nil && i.Binding.Name == "passt" ||
				i.Bridge != nil && allowed
		}
	}
	return true
}

func usesSRIOV(vmi *v1.VirtualMachineInstance) bool {
	return slices.ContainsFunc(vmi.Spec.Domain.Devices.Interfaces, func(i v1.Interface) bool { return i.SRIOV != nil })
}

func reservesSCSI(vmi *v1.VirtualMachineInstance) bool {
	return slices.ContainsFunc(vmi.Spec.Domain.Devices.Disks, func(d v1.Disk) bool { return d.LUN != nil && d.LUN.Reservation })
}

// disks gives the first disk that only this node can see.
func disks(vmi *v1.VirtualMachineInstance, status *v1.VirtualMachineInstanceStatus) *obstacle {
	infos := map[string]*v1.PersistentVolumeClaimInfo{}
	for i := range status.VolumeStatus {
		infos[status.VolumeStatus[i].Name] = status.VolumeStatus[i].PersistentVolumeClaimInfo
	}
	for name, claim := range infos {
		if strings.HasPrefix(name, statePrefix) && !shared(claim) {
			return &obstacle{v1.VirtualMachineInstanceReasonDisksNotMigratable, "cannot migrate VMI: Backend storage PVC is not RWX"}
		}
	}
	for _, v := range vmi.Spec.Volumes {
		switch name := claims.Of(v.VolumeSource); {
		case name != "" && !shared(infos[v.Name]):
			return &obstacle{v1.VirtualMachineInstanceReasonDisksNotMigratable, fmt.Sprintf(
				"cannot migrate VMI: PVC %s is not shared, live migration requires that all PVCs must be shared (using ReadWriteMany access mode)", name)}
		case v.HostDisk != nil && !isTrue(v.HostDisk.Shared):
			return &obstacle{v1.VirtualMachineInstanceReasonDisksNotMigratable, "cannot migrate VMI with non-shared HostDisk"}
		}
	}
	return nil
}

func shared(claim *v1.PersistentVolumeClaimInfo) bool {
	return claim != nil && slices.Contains(claim.AccessModes, corev1.ReadWriteMany)
}

// method is BlockMigration when some disk's contents live in the pod and have to travel along.
func method(vmi *v1.VirtualMachineInstance, status *v1.VirtualMachineInstanceStatus) v1.VirtualMachineInstanceMigrationMethod {
	if len(status.MigratedVolumes) > 0 {
		return v1.BlockMigration
	}
	for _, v := range vmi.Spec.Volumes {
		if claims.Of(v.VolumeSource) == "" && (v.HostDisk == nil || !isTrue(v.HostDisk.Shared)) && !readOnly(vmi, v.Name) {
			return v1.BlockMigration
		}
	}
	return v1.LiveMigration
}

// readOnly tells that the guest cannot change the volume, whose contents therefore stay behind: the target has its own.
func readOnly(vmi *v1.VirtualMachineInstance, volume string) bool {
	return slices.ContainsFunc(vmi.Spec.Domain.Devices.Disks, func(d v1.Disk) bool {
		return d.Name == volume && d.CDRom != nil && (d.CDRom.ReadOnly == nil || *d.CDRom.ReadOnly)
	})
}

func isTrue(b *bool) bool { return b != nil && *b }
