package domain

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"
	"libvirt.org/go/libvirtxml"

	"virtctl/internal/claims"
	"virtctl/internal/libvirt/wire"
)

// DiskDevice is the XML of one disk, to plug it into a running domain or to update it.
func DiskDevice(vmi *v1.VirtualMachineInstance, volume string, facts wire.DiskFacts) (string, error) {
	b, err := newBuilder(vmi, Input{})
	if err != nil {
		return "", err
	}
	// Plugged disks use no iothread: the domain has only those it was started with.
	b.vcpus = uint(min(VCPUs(vmi), b.arch.maxVCPUs))
	for i := range b.spec.Devices.Disks {
		if b.spec.Devices.Disks[i].Name != volume {
			continue
		}
		disk, err := b.disk(i, &facts, DiskTargets(vmi)[volume])
		if err != nil {
			return "", err
		}
		doc, err := disk.Marshal()
		if err != nil {
			return "", fmt.Errorf("write disk %s: %w", volume, err)
		}
		return doc, nil
	}
	return "", invalid(devicesPath().Child("disks"), "no disk is named %q", volume)
}

// Medium is the XML that puts a disc into a running domain's drive, or with no facts takes it out. Everything else stays as the
// domain has it: libvirt changes nothing but the source.
func Medium(doc, volume string, facts *wire.DiskFacts) (string, error) {
	device, err := DiskOf(doc, volume)
	if err != nil {
		return "", err
	}
	var drive libvirtxml.DomainDisk
	if err := drive.Unmarshal(device); err != nil {
		return "", fmt.Errorf("read drive %s: %w", volume, err)
	}
	drive.Source, drive.BackingStore = nil, nil
	if facts != nil {
		drive.Source = sourceOf(facts.Path, facts.Block)
	}
	out, err := drive.Marshal()
	if err != nil {
		return "", fmt.Errorf("write drive %s: %w", volume, err)
	}
	return out, nil
}

// DiskOf finds the device of a volume in a domain's document.
func DiskOf(doc, volume string) (string, error) {
	var dom libvirtxml.Domain
	if err := dom.Unmarshal(doc); err != nil {
		return "", fmt.Errorf("read the domain's document: %w", err)
	}
	if dom.Devices != nil {
		for i := range dom.Devices.Disks {
			if d := &dom.Devices.Disks[i]; d.Alias != nil && d.Alias.Name == "ua-"+volume {
				out, err := d.Marshal()
				if err != nil {
					return "", fmt.Errorf("write disk %s: %w", volume, err)
				}
				return out, nil
			}
		}
	}
	return "", fmt.Errorf("the domain has no disk of volume %s", volume)
}

func (b *builder) disks() error {
	index := volumesByName(b.vmi)
	targets := DiskTargets(b.vmi)
	for i := range b.spec.Devices.Disks {
		spec := &b.spec.Devices.Disks[i]
		var facts *wire.DiskFacts
		if known, ok := b.in.Disks[spec.Name]; ok {
			facts = &known
		}
		at, hasVolume := index[spec.Name]
		switch {
		case !hasVolume && spec.CDRom == nil:
			return invalid(diskPath(i).Child("name"), "no volume is named %q; add it to spec.volumes or remove the disk", spec.Name)
		case !hasVolume:
			facts = nil
		case facts == nil && claims.Pluggable(b.vmi.Spec.Volumes[at].VolumeSource):
			if spec.CDRom == nil {
				continue // plugged in when its attachment pod is ready
			}
		case facts == nil:
			return invalid(diskPath(i).Child("name"), "volume %q has not been prepared in the pod", spec.Name)
		}
		disk, err := b.disk(i, facts, targets[spec.Name])
		if err != nil {
			return err
		}
		if disk.Driver != nil && spec.Disk != nil && disk.Target.Bus == string(v1.DiskBusVirtio) {
			b.threads.assign(disk.Driver, isTrue(spec.DedicatedIOThread), b.vcpus)
		}
		b.dom.Devices.Disks = append(b.dom.Devices.Disks, *disk)
	}
	return nil
}

func diskPath(i int) *field.Path { return devicesPath().Child("disks").Index(i) }

// disk makes the device for spec.domain.devices.disks[i]; no facts make an empty drive.
func (b *builder) disk(i int, facts *wire.DiskFacts, target string) (*libvirtxml.DomainDisk, error) {
	spec, at := &b.spec.Devices.Disks[i], diskPath(i)
	disk := &libvirtxml.DomainDisk{
		Device: "disk",
		Target: &libvirtxml.DomainDiskTarget{Dev: target},
		Serial: spec.Serial,
		Alias:  &libvirtxml.DomainAlias{Name: "ua-" + spec.Name},
	}
	if isTrue(spec.ChangedBlockTracking) {
		return nil, invalid(at.Child("changedBlockTracking"), "changed block tracking is not available; remove the field")
	}
	if err := b.diskKind(disk, spec, at, facts); err != nil {
		return nil, err
	}
	if spec.BootOrder != nil {
		if *spec.BootOrder == 0 {
			return nil, invalid(at.Child("bootOrder"), "must be greater than zero")
		}
		disk.Boot = &libvirtxml.DomainDeviceBoot{Order: *spec.BootOrder}
	}
	if err := blockSize(disk, spec, at); err != nil {
		return nil, err
	}
	if facts == nil {
		return disk, nil
	}
	diskSource(disk, facts)
	if facts.ReadOnly && disk.ReadOnly == nil && disk.Target.Bus != string(v1.DiskBusSATA) {
		disk.ReadOnly = &libvirtxml.DomainDiskReadOnly{}
	}
	return disk, b.diskDriver(disk, spec, at, facts)
}

// diskKind says whether the guest sees a disk, a LUN or a CD-ROM, and on which bus.
func (b *builder) diskKind(disk *libvirtxml.DomainDisk, spec *v1.Disk, at *field.Path, facts *wire.DiskFacts) error {
	kind, readonly := "disk", false
	switch {
	case spec.CDRom != nil:
		kind = "cdrom"
		disk.Device, readonly = "cdrom", true
		disk.Target.Tray = string(spec.CDRom.Tray)
		if disk.Target.Tray == "" {
			disk.Target.Tray = string(v1.TrayStateClosed)
		}
		if err := oneOf(at.Child(kind, "tray"), disk.Target.Tray, "open", "closed"); err != nil {
			return err
		}
		if isFalse(spec.CDRom.ReadOnly) {
			return invalid(at.Child(kind, "readonly"), "a CD-ROM cannot be written; use a disk")
		}
	case spec.LUN != nil:
		kind = "lun"
		disk.Device, readonly = "lun", spec.LUN.ReadOnly
		if spec.LUN.Reservation {
			return invalid(at.Child(kind, "reservation"), "SCSI persistent reservations are not available; remove the field")
		}
		if facts != nil && !facts.Block {
			return invalid(at.Child(kind), "a LUN needs a claim with volumeMode Block; volume %q is a file", spec.Name)
		}
	case spec.Disk != nil:
		readonly = spec.Disk.ReadOnly
	}
	if readonly {
		disk.ReadOnly = &libvirtxml.DomainDiskReadOnly{}
	}
	return b.diskBus(disk, spec, at.Child(kind))
}

func (b *builder) diskBus(disk *libvirtxml.DomainDisk, spec *v1.Disk, at *field.Path) error {
	bus := diskBus(spec)
	if bus == "" {
		bus = b.arch.diskBus
		if disk.Device == "cdrom" && bus == v1.DiskBusVirtio {
			bus = v1.DiskBusSCSI
		}
	}
	disk.Target.Bus = string(bus)
	switch bus {
	case v1.DiskBusVirtio:
		if disk.Device == "cdrom" {
			return invalid(at.Child("bus"), "a CD-ROM cannot be on bus virtio; use sata or scsi")
		}
		disk.Model = b.virtio()
	case v1.DiskBusSATA:
		if !b.arch.x86 {
			return invalid(at.Child("bus"), "%s guests have no SATA; use virtio or scsi", b.arch.name)
		}
		if disk.Device == "disk" && disk.ReadOnly != nil {
			return invalid(at.Child("readonly"), "QEMU has no read-only SATA disk; use bus virtio or scsi, or a cdrom")
		}
	case v1.DiskBusUSB:
		if !b.arch.usb || disk.Device == "lun" {
			return invalid(at.Child("bus"), "usb is not possible here; use virtio or scsi")
		}
	case v1.DiskBusSCSI:
	default:
		return invalid(at.Child("bus"), "%q is not one of virtio, sata, scsi, usb", bus)
	}
	if spec.Disk == nil || spec.Disk.PciAddress == "" {
		return nil
	}
	if bus != v1.DiskBusVirtio {
		return invalid(at.Child("pciAddress"), "only disks on bus virtio have a PCI address")
	}
	address, err := pciAddress(spec.Disk.PciAddress, at.Child("pciAddress"))
	disk.Address = address
	return err
}

func blockSize(disk *libvirtxml.DomainDisk, spec *v1.Disk, at *field.Path) error {
	if spec.BlockSize == nil {
		return nil
	}
	at = at.Child("blockSize")
	custom := spec.BlockSize.Custom
	if custom == nil {
		if enabled(spec.BlockSize.MatchVolume) {
			return invalid(at.Child("matchVolume"), "the volume's block size is not known here; use blockSize.custom")
		}
		return nil
	}
	if custom.Logical == 0 || custom.Physical == 0 {
		return invalid(at.Child("custom"), "logical and physical must be greater than zero")
	}
	disk.BlockIO = &libvirtxml.DomainDiskBlockIO{
		LogicalBlockSize: custom.Logical, PhysicalBlockSize: custom.Physical, DiscardGranularity: custom.DiscardGranularity,
	}
	return nil
}

func diskSource(disk *libvirtxml.DomainDisk, facts *wire.DiskFacts) {
	disk.Source = sourceOf(facts.Path, facts.Block)
	// The chain is written down to its end, so that nothing follows what an image's header says (an image could name any file
	// of the pod as its backing file).
	disk.BackingStore = &libvirtxml.DomainDiskBackingStore{}
	if facts.Backing != "" {
		disk.BackingStore.Format = &libvirtxml.DomainDiskFormat{Type: facts.BackingFormat}
		disk.BackingStore.Source = sourceOf(facts.Backing, facts.BackingBlock)
		disk.BackingStore.BackingStore = &libvirtxml.DomainDiskBackingStore{}
	}
}

func sourceOf(path string, block bool) *libvirtxml.DomainDiskSource {
	if block {
		return &libvirtxml.DomainDiskSource{Block: &libvirtxml.DomainDiskSourceBlock{Dev: path}}
	}
	return &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}}
}
