package domain

import (
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"
	"libvirt.org/go/libvirtxml"

	"virtctl/internal/libvirt/wire"
)

// Cache modes.
const (
	cacheNone         = "none"
	cacheWritethrough = "writethrough"
	cacheWriteback    = "writeback"
)

func (b *builder) diskDriver(disk *libvirtxml.DomainDisk, spec *v1.Disk, at *field.Path, facts *wire.DiskFacts) error {
	driver := &libvirtxml.DomainDiskDriver{Name: "qemu", Type: facts.Format, ErrorPolicy: string(v1.DiskErrorPolicyStop)}
	disk.Driver = driver
	if err := oneOf(at.Child("name"), facts.Format, "raw", "qcow2"); err != nil {
		return err
	}
	if policy := spec.ErrorPolicy; policy != nil && *policy != "" {
		driver.ErrorPolicy = string(*policy)
		if err := oneOf(at.Child("errorPolicy"), driver.ErrorPolicy, "stop", "ignore", "report", "enospace"); err != nil {
			return err
		}
	}
	cache, err := diskCache(spec, at, facts)
	if err != nil {
		return err
	}
	driver.Cache = cache
	if driver.IO, err = diskIO(spec, at, facts, cache); err != nil {
		return err
	}
	if isTrue(spec.Shareable) {
		if disk.Device == "cdrom" {
			return invalid(at.Child("shareable"), "a CD-ROM is read-only and needs no sharing; remove the field")
		}
		if facts.Format != "raw" {
			return invalid(at.Child("shareable"), "only raw images can be shared; volume %q is %s", spec.Name, facts.Format)
		}
		disk.Shareable = &libvirtxml.DomainDiskShareable{}
	}
	if disk.Device == "disk" && disk.ReadOnly == nil && !preallocated(b.vmi, spec.Name) {
		// Who asked for preallocated storage wants to keep its blocks.
		driver.Discard = "unmap"
	}
	if disk.Device == "disk" && disk.Target.Bus == string(v1.DiskBusVirtio) && isTrue(b.spec.Devices.BlockMultiQueue) {
		driver.Queues = uintPtr(b.vcpus)
	}
	return nil
}

func preallocated(vmi *v1.VirtualMachineInstance, volume string) bool {
	for i := range vmi.Status.VolumeStatus {
		status := &vmi.Status.VolumeStatus[i]
		if status.Name == volume {
			return status.PersistentVolumeClaimInfo != nil && status.PersistentVolumeClaimInfo.Preallocated
		}
	}
	return false
}

// diskCache picks the mode: what the object says, else none where the storage can do it (contract).
func diskCache(spec *v1.Disk, at *field.Path, facts *wire.DiskFacts) (string, error) {
	shared := isTrue(spec.Shareable)
	cache := string(spec.Cache)
	if err := oneOf(at.Child("cache"), cache, "", cacheNone, cacheWritethrough, cacheWriteback); err != nil {
		return "", err
	}
	switch {
	case shared && cache != "" && cache != cacheNone:
		return "", invalid(at.Child("cache"), "a shareable disk cannot be cached; remove cache or use none")
	case (shared || cache == cacheNone) && !facts.DirectIO:
		return "", invalid(at.Child("cache"), "the storage of volume %q has no direct I/O, which %s needs", spec.Name,
			map[bool]string{true: "a shareable disk", false: "cache none"}[shared])
	case shared:
		return cacheNone, nil
	case cache != "":
		return cache, nil
	case facts.DirectIO:
		return cacheNone, nil
	}
	return cacheWritethrough, nil
}

// diskIO picks the submission mode. Linux AIO needs O_DIRECT, and only pays where no block must be allocated.
func diskIO(spec *v1.Disk, at *field.Path, facts *wire.DiskFacts, cache string) (string, error) {
	mode := string(spec.IO)
	if err := oneOf(at.Child("io"), mode, "", "native", "threads", "default"); err != nil {
		return "", err
	}
	switch {
	case mode == "native" && cache != cacheNone:
		return "", invalid(at.Child("io"), "native needs cache none, and this disk has cache %s", cache)
	case mode == "default":
		return "", nil
	case mode != "":
		return mode, nil
	case cache == cacheNone && (facts.Block || facts.Preallocated) && facts.Format == "raw":
		return "native", nil
	}
	return "", nil
}
