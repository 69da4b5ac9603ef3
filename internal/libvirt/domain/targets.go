package domain

import (
	"strings"

	v1 "kubevirt.io/api/core/v1"
)

// diskBus is the bus the guest sees the disk on, "" if the object does not say.
func diskBus(disk *v1.Disk) v1.DiskBus {
	switch {
	case disk.Disk != nil:
		return disk.Disk.Bus
	case disk.CDRom != nil:
		return disk.CDRom.Bus
	case disk.LUN != nil:
		return disk.LUN.Bus
	}
	return ""
}

// DiskTargets says which target (vda, sda, ...) each disk has, by volume name. A disk that the status already gives a target
// keeps it, so that plugging and unplugging others does not rename it.
func DiskTargets(vmi *v1.VirtualMachineInstance) map[string]string {
	arch, ok := architecture(vmi.Spec.Architecture)
	if !ok {
		arch, _ = architecture("")
	}
	fixed := map[string]string{}
	for i := range vmi.Status.VolumeStatus {
		fixed[vmi.Status.VolumeStatus[i].Name] = vmi.Status.VolumeStatus[i].Target
	}
	disks := vmi.Spec.Domain.Devices.Disks
	targets, taken := make(map[string]string, len(disks)), map[string]bool{}
	for i := range disks {
		target := fixed[disks[i].Name]
		if target != "" && !taken[target] && strings.HasPrefix(target, targetPrefix(&disks[i], arch)) {
			targets[disks[i].Name], taken[target] = target, true
		}
	}
	next := map[string]int{}
	for i := range disks {
		if targets[disks[i].Name] != "" {
			continue
		}
		prefix := targetPrefix(&disks[i], arch)
		target := prefix + letters(next[prefix])
		for ; taken[target]; target = prefix + letters(next[prefix]) {
			next[prefix]++
		}
		targets[disks[i].Name], taken[target] = target, true
	}
	return targets
}

// targetPrefix groups buses as guests name their disks: virtio disks, and everything that looks like SCSI.
func targetPrefix(disk *v1.Disk, arch arch) string {
	bus := diskBus(disk)
	if bus == "" {
		bus = arch.diskBus
	}
	if bus == v1.DiskBusVirtio {
		return "vd"
	}
	return "sd"
}

// letters counts a, b, ..., z, aa, ab, ...
func letters(n int) string {
	name := ""
	for n++; n > 0; n = (n - 1) / 26 {
		name = string(rune('a'+(n-1)%26)) + name
	}
	return name
}
