package vm

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/claims"
	"virtctl/internal/clusterconfig"
)

// pluggable tells whether volumes of the template reach a running guest.
func pluggable(c clusterconfig.Config) bool {
	return c.Gate(clusterconfig.GateDeclarativeHotplugVolumes) || c.Gate(clusterconfig.GateHotplugVolumes)
}

// updateVolumes plugs what the VM's template has and the VMI lacks, and unplugs the other way round. A volume whose claim has
// changed is unplugged first and plugged again when it is gone.
func updateVolumes(config clusterconfig.Config, vm *v1.VirtualMachine, vmi *v1.VirtualMachineInstance) {
	if !pluggable(config) {
		return
	}
	template := &vm.Spec.Template.Spec
	declarative := config.Gate(clusterconfig.GateDeclarativeHotplugVolumes)
	before := len(vmi.Spec.Volumes)
	vmi.Spec.Volumes = slices.DeleteFunc(vmi.Spec.Volumes, func(v v1.Volume) bool {
		at := slices.IndexFunc(template.Volumes, func(t v1.Volume) bool { return t.Name == v.Name })
		other := at < 0 || !equality.Semantic.DeepEqual(template.Volumes[at].VolumeSource, v.VolumeSource)
		// The older way knows volumes that only the VMI has.
		return claims.Pluggable(v.VolumeSource) && other && (declarative || removalAsked(vm, v.Name))
	})
	if len(vmi.Spec.Volumes) < before {
		dropDisks(vmi, template)
	}
	for _, v := range template.Volumes {
		if !claims.Pluggable(v.VolumeSource) || hasVolume(&vmi.Spec, v.Name) || unplugging(vmi, v.Name) {
			continue
		}
		vmi.Spec.Volumes = append(vmi.Spec.Volumes, *v.DeepCopy())
		addDisk(&vmi.Spec, template, v.Name)
	}
}

func removalAsked(vm *v1.VirtualMachine, volume string) bool {
	return slices.ContainsFunc(vm.Status.VolumeRequests, func(q v1.VirtualMachineVolumeRequest) bool {
		return q.RemoveVolumeOptions != nil && q.RemoveVolumeOptions.Name == volume
	})
}

func hasVolume(spec *v1.VirtualMachineInstanceSpec, name string) bool {
	return slices.ContainsFunc(spec.Volumes, func(v v1.Volume) bool { return v.Name == name })
}

// unplugging tells that a volume of that name is still being unplugged.
func unplugging(vmi *v1.VirtualMachineInstance, name string) bool {
	return slices.ContainsFunc(vmi.Status.VolumeStatus, func(s v1.VolumeStatus) bool {
		return s.Name == name && s.HotplugVolume != nil
	})
}

// dropDisks takes the disks away whose volume has just gone, unless the template keeps them: an empty drive.
func dropDisks(vmi *v1.VirtualMachineInstance, template *v1.VirtualMachineInstanceSpec) {
	d := &vmi.Spec.Domain.Devices
	d.Disks = slices.DeleteFunc(d.Disks, func(disk v1.Disk) bool {
		kept := slices.ContainsFunc(template.Domain.Devices.Disks, func(t v1.Disk) bool { return t.Name == disk.Name && t.CDRom != nil })
		return !hasVolume(&vmi.Spec, disk.Name) && !kept
	})
}

// addDisk adds the template's disk of a volume. Only some buses take a disk while the guest runs: SCSI is one that all guests know.
func addDisk(spec, template *v1.VirtualMachineInstanceSpec, volume string) {
	if slices.ContainsFunc(spec.Domain.Devices.Disks, func(d v1.Disk) bool { return d.Name == volume }) {
		return
	}
	disk := v1.Disk{Name: volume}
	for _, t := range template.Domain.Devices.Disks {
		if t.Name == volume {
			disk = *t.DeepCopy()
		}
	}
	if disk.Disk == nil && disk.CDRom == nil && disk.LUN == nil {
		disk.Disk = &v1.DiskTarget{}
	}
	switch {
	case disk.Disk != nil && disk.Disk.Bus == "":
		disk.Disk.Bus = v1.DiskBusSCSI
	case disk.LUN != nil && disk.LUN.Bus == "":
		disk.LUN.Bus = v1.DiskBusSCSI
	}
	spec.Domain.Devices.Disks = append(spec.Domain.Devices.Disks, disk)
}

// dropPlugged leaves the machine without its pluggable volumes and their disks.
func dropPlugged(spec *v1.VirtualMachineInstanceSpec) {
	gone := map[string]bool{}
	spec.Volumes = slices.DeleteFunc(spec.Volumes, func(v v1.Volume) bool {
		gone[v.Name] = claims.Pluggable(v.VolumeSource) || v.MemoryDump != nil
		return gone[v.Name]
	})
	spec.Domain.Devices.Disks = slices.DeleteFunc(spec.Domain.Devices.Disks, func(d v1.Disk) bool { return gone[d.Name] && d.CDRom == nil })
	if len(spec.Volumes) == 0 {
		spec.Volumes = nil
	}
	if len(spec.Domain.Devices.Disks) == 0 {
		spec.Domain.Devices.Disks = nil
	}
}

// takeVolumeRequests puts what was asked for with the older way of plugging (gate HotplugVolumes) into the VM's template, from
// where it reaches the guest, and drops the requests that are there.
func (r *Reconciler) takeVolumeRequests(ctx context.Context, p *pass) error {
	if len(p.vm.Status.VolumeRequests) == 0 || p.vm.Spec.Template == nil {
		return nil
	}
	changed := p.before.DeepCopy()
	for i := range p.vm.Status.VolumeRequests {
		fulfil(&changed.Spec.Template.Spec, &p.vm.Status.VolumeRequests[i])
	}
	if !equality.Semantic.DeepEqual(changed.Spec, p.before.Spec) {
		if _, err := r.writer.Patch(ctx, p.before, changed); err != nil {
			return fmt.Errorf("put the requested volumes into the VM: %w", err)
		}
		p.hold = true // the VM's next version brings us back
		return nil
	}
	p.vm.Status.VolumeRequests = nil
	return nil
}

// fulfil makes a template what a request asks for.
func fulfil(spec *v1.VirtualMachineInstanceSpec, q *v1.VirtualMachineVolumeRequest) {
	switch {
	case q.AddVolumeOptions != nil && !hasVolume(spec, q.AddVolumeOptions.Name):
		o := q.AddVolumeOptions
		v := v1.Volume{Name: o.Name}
		v.PersistentVolumeClaim, v.DataVolume = o.VolumeSource.PersistentVolumeClaim, o.VolumeSource.DataVolume
		spec.Volumes = append(spec.Volumes, v)
		disk := *o.Disk.DeepCopy()
		disk.Name = o.Name
		spec.Domain.Devices.Disks = append(spec.Domain.Devices.Disks, disk)
	case q.RemoveVolumeOptions != nil:
		name := q.RemoveVolumeOptions.Name
		spec.Volumes = slices.DeleteFunc(spec.Volumes, func(v v1.Volume) bool { return v.Name == name && claims.Pluggable(v.VolumeSource) })
		if !hasVolume(spec, name) {
			spec.Domain.Devices.Disks = slices.DeleteFunc(spec.Domain.Devices.Disks, func(d v1.Disk) bool { return d.Name == name })
		}
	}
}
