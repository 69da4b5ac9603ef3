package rules

import (
	"math/bits"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/clusterconfig"
)

const (
	maxSerial    = 256
	minBlockSize = 512
	maxBlockSize = 2 << 20
)

// serialCharacters are what QEMU and udev both take.
func serialCharacters() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_.+-]+$`) }

// pciAddress is domain:bus:slot.function.
func pciAddress() *regexp.Regexp {
	return regexp.MustCompile(`^[\da-fA-F]{4}:[\da-fA-F]{2}:[01][\da-fA-F]\.[0-7]$`)
}

// disks must have names of their own, and volumes.
func disks(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	list := below(at, "domain.devices.disks")
	first := map[string]int{}
	for i, d := range spec.Domain.Devices.Disks {
		disk := list.Index(i)
		if problems := validation.IsDNS1123Label(d.Name); len(problems) > 0 {
			c.invalid(disk.Child("name"), "%s %q is not valid: %s", disk.Child("name"), d.Name, strings.Join(problems, ", "))
		}
		if other, seen := first[d.Name]; seen {
			c.duplicate(disk.Child("name"), "%s and %s must not have the same Name.", disk, list.Index(other))
		} else {
			first[d.Name] = i
		}
		v := volumeNamed(spec, d.Name)
		switch {
		case v == nil && d.CDRom == nil:
			c.notFound(disk.Child("name"), "%s '%s' not found.", disk.Child("name"), d.Name)
		case v == nil:
			// An empty drive: a medium may be put in later.
			c.gate(disk.Child("name"), clusterconfig.GateDeclarativeHotplugVolumes, "a CD-ROM without a volume")
		case d.LUN != nil && v.PersistentVolumeClaim == nil && v.DataVolume == nil:
			c.invalid(disk.Child("lun"), "%s can only be mapped to a DataVolume or PersistentVolumeClaim volume.", disk.Child("lun"))
		}
	}
}

func volumeNamed(spec *v1.VirtualMachineInstanceSpec, name string) *v1.Volume {
	i := slices.IndexFunc(spec.Volumes, func(v v1.Volume) bool { return v.Name == name })
	if i < 0 {
		return nil
	}
	return &spec.Volumes[i]
}

func diskTargets(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	for i, d := range spec.Domain.Devices.Disks {
		disk := below(at, "domain.devices.disks").Index(i)
		if count(d.Disk != nil, d.LUN != nil, d.CDRom != nil) > 1 {
			c.invalid(disk, "%s must have exactly one target type: disk, lun or cdrom", disk)
		}
		switch {
		case d.Disk != nil:
			bus(c, disk.Child("disk", "bus"), d.Disk.Bus, "virtio", "sata", "scsi", "usb")
			if a := d.Disk.PciAddress; a != "" {
				diskPCI(c, disk.Child("disk", "pciAddress"), d.Disk)
			}
		case d.LUN != nil:
			bus(c, disk.Child("lun", "bus"), d.LUN.Bus, "virtio", "sata", "scsi", "usb")
			if d.LUN.Reservation && d.LUN.Bus != v1.DiskBusSCSI {
				c.invalid(disk.Child("lun", "reservation"), "%s can only be set with a SCSI bus", disk.Child("lun", "reservation"))
			}
		case d.CDRom != nil:
			if d.CDRom.Bus == v1.DiskBusVirtio {
				c.invalid(disk.Child("cdrom", "bus"), "Bus type %s is invalid for CD-ROM device", d.CDRom.Bus)
			} else {
				bus(c, disk.Child("cdrom", "bus"), d.CDRom.Bus, "sata", "scsi", "usb")
			}
			enum(c, disk.Child("cdrom", "tray"), d.CDRom.Tray, v1.TrayStateOpen, v1.TrayStateClosed)
		}
	}
}

func bus(c *Check, at *field.Path, value v1.DiskBus, allowed ...v1.DiskBus) {
	switch {
	case value == "" || slices.Contains(allowed, value):
	case value == "ide":
		c.invalid(at, "IDE bus is not supported")
	default:
		c.unsupported(at, "%s is set with an unrecognized bus %s, must be one of: %v", at, value, allowed) //nolint:misspell // contract
	}
}

func diskPCI(c *Check, at *field.Path, d *v1.DiskTarget) {
	if d.Bus != v1.DiskBusVirtio {
		c.invalid(at, "%s - setting a PCI address is only possible with bus type virtio.", at)
	}
	if !pciAddress().MatchString(d.PciAddress) {
		c.invalid(at, "%s has malformed PCI address (%s).", at, d.PciAddress)
	}
}

func diskTuning(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	for i := range spec.Domain.Devices.Disks {
		d := &spec.Domain.Devices.Disks[i]
		disk := below(at, "domain.devices.disks").Index(i)
		enum(c, disk.Child("cache"), d.Cache, v1.CacheNone, v1.CacheWriteThrough, v1.CacheWriteBack)
		enum(c, disk.Child("io"), d.IO, v1.IONative, v1.IOThreads)
		if d.ErrorPolicy != nil {
			enum(c, disk.Child("errorPolicy"), *d.ErrorPolicy, v1.DiskErrorPolicyStop, v1.DiskErrorPolicyIgnore,
				v1.DiskErrorPolicyReport, v1.DiskErrorPolicyEnospace)
		}
		if d.Shareable != nil && *d.Shareable && d.Cache != "" && d.Cache != v1.CacheNone {
			c.invalid(disk.Child("cache"), "%s must be none for a shareable disk", disk.Child("cache"))
		}
		serial(c, disk.Child("serial"), d.Serial)
		if d.BlockSize != nil {
			blockSize(c, disk.Child("blockSize"), d.BlockSize)
		}
		if d.DedicatedIOThread != nil && *d.DedicatedIOThread && d.Disk != nil && d.Disk.Bus != "" &&
			d.Disk.Bus != v1.DiskBusVirtio && d.Disk.Bus != v1.DiskBusSCSI {
			c.unsupported(disk.Child("dedicatedIOThread"), "IOThreads are not supported for disks on a %s bus", d.Disk.Bus)
		}
	}
}

func serial(c *Check, at *field.Path, value string) {
	switch {
	case value == "":
	case len(value) > maxSerial:
		c.invalid(at, "%s must be less than or equal to %d in length, if specified", at, maxSerial)
	case !serialCharacters().MatchString(value):
		c.invalid(at, "%s must be made up of the following characters [A-Za-z0-9_.+-], if specified", at)
	}
}

func blockSize(c *Check, at *field.Path, b *v1.BlockSize) {
	match := b.MatchVolume != nil && (b.MatchVolume.Enabled == nil || *b.MatchVolume.Enabled)
	if b.Custom != nil && match {
		c.invalid(at, "Block size matching can't be enabled together with a custom value")
		return
	}
	if b.Custom == nil {
		return
	}
	custom := at.Child("custom")
	size := func(name string, value uint) {
		switch {
		case value < minBlockSize:
			c.invalid(custom.Child(name), "Provided size of %d is less than the supported minimum size of %d", value, minBlockSize)
		case value > maxBlockSize:
			c.invalid(custom.Child(name), "Provided size of %d is greater than the supported maximum size of %d", value, maxBlockSize)
		case bits.OnesCount(value) != 1:
			c.invalid(custom.Child(name), "Provided size of %d is not a power of 2", value)
		}
	}
	size("logical", b.Custom.Logical)
	size("physical", b.Custom.Physical)
	if b.Custom.Logical > b.Custom.Physical {
		c.invalid(custom, "Logical size %d must be the same or less than the physical size of %d", b.Custom.Logical, b.Custom.Physical)
	}
	if g := b.Custom.DiscardGranularity; g != nil && b.Custom.Logical > 0 && *g%b.Custom.Logical != 0 {
		c.invalid(custom.Child("discardGranularity"), "Discard granularity %d must be a multiple of the logical size %d", *g, b.Custom.Logical)
	}
}

// bootOrder is one order over all devices that a guest can boot from.
func bootOrder(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	taken := map[uint]string{}
	order := func(at *field.Path, value *uint) {
		if value == nil {
			return
		}
		if *value < 1 {
			c.invalid(at, "%s must have a boot order > 0, if supplied", at)
			return
		}
		if other, seen := taken[*value]; seen {
			c.invalid(at, "Boot order for %s already set for a different device (%s).", at, other)
			return
		}
		taken[*value] = at.String()
	}
	for i, d := range spec.Domain.Devices.Disks {
		order(below(at, "domain.devices.disks").Index(i).Child("bootOrder"), d.BootOrder)
	}
	for i, n := range spec.Domain.Devices.Interfaces {
		order(below(at, "domain.devices.interfaces").Index(i).Child("bootOrder"), n.BootOrder)
	}
}

func filesystems(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	list := below(at, "domain.devices.filesystems")
	first := map[string]int{}
	for i, f := range spec.Domain.Devices.Filesystems {
		if f.Name == "" {
			c.required(list.Index(i).Child("name"), "%s must not be empty", list.Index(i).Child("name"))
			continue
		}
		if other, seen := first[f.Name]; seen {
			c.duplicate(list.Index(i).Child("name"), "%s and %s must not have the same Name.", list.Index(i), list.Index(other))
		}
		first[f.Name] = i
		if slices.ContainsFunc(spec.Domain.Devices.Disks, func(d v1.Disk) bool { return d.Name == f.Name }) {
			c.invalid(list.Index(i).Child("name"), "%s '%s' is used by a disk as well", list.Index(i).Child("name"), f.Name)
		}
		v := volumeNamed(spec, f.Name)
		switch {
		case v == nil:
			c.notFound(list.Index(i).Child("name"), "%s '%s' not found.", list.Index(i).Child("name"), f.Name)
		case v.PersistentVolumeClaim != nil || v.DataVolume != nil:
			c.gate(list.Index(i), clusterconfig.GateEnableVirtioFsStorage, "virtiofs of a storage volume")
		}
		if f.Virtiofs == nil {
			c.required(list.Index(i).Child("virtiofs"), "%s must be set", list.Index(i).Child("virtiofs"))
		}
	}
}
