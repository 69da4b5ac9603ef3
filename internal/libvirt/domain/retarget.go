package domain

import (
	"fmt"

	v1 "kubevirt.io/api/core/v1"
	"libvirt.org/go/libvirtxml"
)

// Retarget makes the document with which a migration's target runs the guest. source is the running domain's migratable
// document: what the guest sees is in it, including what was plugged in since it started, and must not change. From in, the
// target's facts, come the things only the host sees: image paths, tap devices, processor pinning, the emulator.
func Retarget(source string, vmi *v1.VirtualMachineInstance, in Input) (string, error) {
	dom := &libvirtxml.Domain{}
	if err := dom.Unmarshal(source); err != nil {
		return "", fmt.Errorf("read the running domain of %s/%s: %w", vmi.Namespace, vmi.Name, err)
	}
	if dom.Devices == nil {
		return "", fmt.Errorf("the running domain of %s/%s has no devices; ask its launcher for the migratable document", vmi.Namespace, vmi.Name)
	}
	if len(dom.Devices.Hostdevs) > 0 {
		return "", invalid(devicesPath().Child("hostDevices"), "a guest with devices of its node cannot migrate; detach them first")
	}
	here, err := Convert(vmi, in)
	if err != nil {
		return "", err
	}
	if dom.Type != here.Type {
		return "", fmt.Errorf("the guest runs on a %s node and cannot move to a %s node; migrate to a node that also %s", dom.Type, here.Type,
			map[string]string{"kvm": "has hardware virtualization", "qemu": "has none"}[dom.Type])
	}
	dom.Devices.Emulator = here.Devices.Emulator
	dom.CPUTune, dom.NUMATune = here.CPUTune, here.NUMATune
	if err := retargetDisks(dom, here); err != nil {
		return "", err
	}
	if err := retargetInterfaces(dom, here); err != nil {
		return "", err
	}
	doc, err := dom.Marshal()
	if err != nil {
		return "", fmt.Errorf("write domain of %s/%s: %w", vmi.Namespace, vmi.Name, err)
	}
	return doc, nil
}

// retargetDisks takes where each disk is, and how it is best opened there, from the target.
func retargetDisks(dom, here *libvirtxml.Domain) error {
	known := map[string]*libvirtxml.DomainDisk{}
	for i := range here.Devices.Disks {
		disk := &here.Devices.Disks[i]
		known[disk.Alias.Name] = disk
	}
	for i := range dom.Devices.Disks {
		disk := &dom.Devices.Disks[i]
		if disk.Source == nil {
			continue // an empty drive
		}
		var there *libvirtxml.DomainDisk
		if disk.Alias != nil {
			there = known[disk.Alias.Name]
		}
		if there == nil || there.Source == nil {
			return fmt.Errorf("disk %s of the running guest has not been prepared on the target; prepare its volume there first", diskName(disk))
		}
		disk.Source, disk.BackingStore = there.Source, there.BackingStore
		if disk.Driver != nil && there.Driver != nil {
			disk.Driver.Type, disk.Driver.Cache, disk.Driver.IO = there.Driver.Type, there.Driver.Cache, there.Driver.IO
		}
	}
	return nil
}

func diskName(disk *libvirtxml.DomainDisk) string {
	if disk.Target != nil {
		return disk.Target.Dev
	}
	return "without a target"
}

// retargetInterfaces takes the pod's end of each interface from the target; MAC and model stay.
func retargetInterfaces(dom, here *libvirtxml.Domain) error {
	known := map[string]*libvirtxml.DomainInterface{}
	for i := range here.Devices.Interfaces {
		iface := &here.Devices.Interfaces[i]
		known[iface.Alias.Name] = iface
	}
	for i := range dom.Devices.Interfaces {
		iface := &dom.Devices.Interfaces[i]
		name := ""
		if iface.Alias != nil {
			name = iface.Alias.Name
		}
		there := known[name]
		if there == nil {
			return fmt.Errorf("interface %q of the running guest has no link on the target; prepare its network there first", name)
		}
		iface.Source, iface.Target, iface.Backend = there.Source, there.Target, there.Backend
	}
	return nil
}
