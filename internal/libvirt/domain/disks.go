package domain

import (
	"path"
	"strconv"

	k8sv1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/claims"
	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/wire"
)

// Labels of generated ISO images (contract).
const (
	labelConfig  = "cfgdata"
	labelSysprep = "unattendCD"
)

// DiskOptions is what Disks cannot read from the VirtualMachineInstance's spec.
type DiskOptions struct {
	// BlockVolumes names the volumes whose claim has volumeMode Block. When nil, BlockVolumes(vmi) is used.
	BlockVolumes map[string]bool
	// AllowHostDisk is the feature gate HostDisk.
	AllowHostDisk bool
	// MaxVirtualSizes refuses images that are larger inside than this many bytes, by volume name.
	MaxVirtualSizes map[string]int64
	// MACs are the interfaces' MACs as the guest sees them, by interface name, for cloud-init's device tags. The spec's
	// macAddress is used for those not listed.
	MACs map[string]string
}

// BlockVolumes reads from the status which volumes are backed by a claim with volumeMode Block.
func BlockVolumes(vmi *v1.VirtualMachineInstance) map[string]bool {
	block := map[string]bool{}
	for i := range vmi.Status.VolumeStatus {
		status := &vmi.Status.VolumeStatus[i]
		info := status.PersistentVolumeClaimInfo
		if info != nil && info.VolumeMode != nil && *info.VolumeMode == k8sv1.PersistentVolumeBlock {
			block[status.Name] = true
		}
	}
	return block
}

// Disks lists what the launcher must prepare before the domain can start: one spec for every volume that some disk shows to
// the guest. Hot-plugged volumes are not in it, see HotplugDisk.
func Disks(vmi *v1.VirtualMachineInstance, opts DiskOptions) ([]wire.DiskSpec, error) {
	if opts.BlockVolumes == nil {
		opts.BlockVolumes = BlockVolumes(vmi)
	}
	index := volumesByName(vmi)
	var specs []wire.DiskSpec
	for i := range vmi.Spec.Domain.Devices.Disks {
		disk := &vmi.Spec.Domain.Devices.Disks[i]
		at, ok := index[disk.Name]
		if !ok {
			if disk.CDRom != nil {
				continue // an empty drive
			}
			return nil, invalid(devicesPath().Child("disks").Index(i).Child("name"),
				"no volume is named %q; add it to spec.volumes or remove the disk", disk.Name)
		}
		if claims.Pluggable(vmi.Spec.Volumes[at].VolumeSource) {
			continue
		}
		spec, err := diskSpec(vmi, at, opts)
		if err != nil {
			return nil, err
		}
		specs = append(specs, spec)
	}
	return specs, nil
}

// HotplugDisk is the spec of a hot-plugged volume, which virt-handler has brought into the pod below layout.HotplugDir.
func HotplugDisk(vmi *v1.VirtualMachineInstance, volume string, opts DiskOptions) (wire.DiskSpec, error) {
	if opts.BlockVolumes == nil {
		opts.BlockVolumes = BlockVolumes(vmi)
	}
	at, ok := volumesByName(vmi)[volume]
	if !ok {
		return wire.DiskSpec{}, invalid(specPath().Child("volumes"), "no volume is named %q", volume)
	}
	if !claims.Pluggable(vmi.Spec.Volumes[at].VolumeSource) {
		return wire.DiskSpec{}, invalid(specPath().Child("volumes").Index(at),
			"volume %q is not hot-pluggable; set hotpluggable: true on its claim or DataVolume", volume)
	}
	spec := wire.DiskSpec{Name: volume, Kind: wire.DiskFile, Source: HotplugFile(volume)}
	if opts.BlockVolumes[volume] {
		spec.Kind, spec.Source = wire.DiskBlock, HotplugDevice(volume)
	}
	return spec, nil
}

// HotplugFile and HotplugDevice are where virt-handler makes a hot-plugged claim appear in the pod: its disk image, or its
// device.
func HotplugFile(volume string) string   { return path.Join(layout.HotplugDir, volume+".img") }
func HotplugDevice(volume string) string { return path.Join(layout.HotplugDir, volume) }

// KernelFiles lists the files of the kernel boot image that must exist, for wire.PrepareRequest.Kernel.
func KernelFiles(vmi *v1.VirtualMachineInstance) []string {
	boot := kernelBootOf(vmi)
	if boot == nil || boot.Container == nil {
		return nil
	}
	var files []string
	for _, file := range []string{boot.Container.KernelPath, boot.Container.InitrdPath} {
		if file != "" {
			files = append(files, kernelBootFile(file))
		}
	}
	return files
}

// kernelBootFile keeps a path of the user inside the image volume: Join after a leading slash cannot climb out.
func kernelBootFile(file string) string {
	return path.Join(layout.KernelBootDir, path.Join("/", file))
}

func volumesByName(vmi *v1.VirtualMachineInstance) map[string]int {
	index := make(map[string]int, len(vmi.Spec.Volumes))
	for i := range vmi.Spec.Volumes {
		index[vmi.Spec.Volumes[i].Name] = i
	}
	return index
}

func diskSpec(vmi *v1.VirtualMachineInstance, at int, opts DiskOptions) (wire.DiskSpec, error) {
	spec := wire.DiskSpec{Name: vmi.Spec.Volumes[at].Name}
	spec.MaxVirtualSize = opts.MaxVirtualSizes[spec.Name]
	err := fillDiskSpec(&spec, vmi, at, opts)
	return spec, err
}

func fillDiskSpec(spec *wire.DiskSpec, vmi *v1.VirtualMachineInstance, at int, opts DiskOptions) error {
	volume := &vmi.Spec.Volumes[at]
	path := specPath().Child("volumes").Index(at)
	source := &volume.VolumeSource
	switch {
	case source.ContainerDisk != nil:
		spec.Kind, spec.Source, spec.Path = wire.DiskImage, layout.ImageVolume(volume.Name), source.ContainerDisk.Path
	case source.PersistentVolumeClaim != nil, source.DataVolume != nil:
		claimDisk(spec, vmi, opts)
	case source.Ephemeral != nil:
		spec.Kind, spec.Source = wire.DiskOverlay, layout.ClaimImage(volume.Name)
		if opts.BlockVolumes[volume.Name] {
			spec.Source = layout.BlockDevice(volume.Name)
		}
	case source.EmptyDisk != nil:
		spec.Kind, spec.Capacity = wire.DiskEmpty, source.EmptyDisk.Capacity.Value()
		if spec.Capacity <= 0 {
			return invalid(path.Child("emptyDisk", "capacity"), "must be greater than zero")
		}
	case source.HostDisk != nil:
		return hostDisk(spec, source.HostDisk, path.Child("hostDisk"), opts)
	case source.CloudInitNoCloud != nil, source.CloudInitConfigDrive != nil:
		return cloudInit(spec, vmi, volume, opts)
	default:
		return projectedDisk(spec, volume, path)
	}
	return nil
}

// claimDisk describes a claim. An empty filesystem claim gets a disk image that fills it, as the contract wants.
func claimDisk(spec *wire.DiskSpec, vmi *v1.VirtualMachineInstance, opts DiskOptions) {
	if opts.BlockVolumes[spec.Name] {
		spec.Kind, spec.Source = wire.DiskBlock, layout.BlockDevice(spec.Name)
		return
	}
	spec.Kind, spec.Source = wire.DiskFile, layout.ClaimImage(spec.Name)
	for i := range vmi.Status.VolumeStatus {
		status := &vmi.Status.VolumeStatus[i]
		if status.Name == spec.Name && status.PersistentVolumeClaimInfo != nil {
			spec.Capacity = ClaimImageSize(status.PersistentVolumeClaimInfo)
			spec.Preallocate = status.PersistentVolumeClaimInfo.Preallocated
			spec.Create = spec.Capacity > 0
		}
	}
}

// ClaimImageSize is how large an image fits a claim: its capacity less the filesystem's own share, in whole MiB.
func ClaimImageSize(info *v1.PersistentVolumeClaimInfo) int64 {
	capacity := info.Capacity[k8sv1.ResourceStorage]
	size := capacity.Value()
	if request, ok := info.Requests[k8sv1.ResourceStorage]; ok && request.Value() > 0 && request.Value() < size {
		size = request.Value()
	}
	if info.FilesystemOverhead != nil {
		if share, err := strconv.ParseFloat(string(*info.FilesystemOverhead), 64); err == nil && share > 0 && share < 1 {
			size = int64(float64(size) * (1 - share))
		}
	}
	const mebibyte = 1 << 20
	return size / mebibyte * mebibyte
}

func hostDisk(spec *wire.DiskSpec, host *v1.HostDisk, at *field.Path, opts DiskOptions) error {
	if !opts.AllowHostDisk {
		return invalid(at, "host disks are off; add HostDisk to the KubeVirt object's feature gates")
	}
	name := path.Base(host.Path)
	if !path.IsAbs(host.Path) || name == "/" || name == ".." {
		return invalid(at.Child("path"), "must be the absolute path of a file")
	}
	spec.Kind, spec.Source = wire.DiskFile, path.Join(layout.ClaimDir(spec.Name), name)
	switch host.Type {
	case v1.HostDiskExists:
	case v1.HostDiskExistsOrCreate:
		spec.Create, spec.Capacity = true, host.Capacity.Value()
		if spec.Capacity <= 0 {
			return invalid(at.Child("capacity"), "must be greater than zero for type %s", host.Type)
		}
	default:
		return invalid(at.Child("type"), "must be %s or %s", v1.HostDiskExists, v1.HostDiskExistsOrCreate)
	}
	return nil
}

// projectedDisk describes the volumes whose files become an ISO image.
func projectedDisk(spec *wire.DiskSpec, volume *v1.Volume, at *field.Path) error {
	source := &volume.VolumeSource
	var label string
	var kind layout.Source
	switch {
	case source.ConfigMap != nil:
		kind, label = layout.ConfigMap, source.ConfigMap.VolumeLabel
	case source.Secret != nil:
		kind, label = layout.Secret, source.Secret.VolumeLabel
	case source.DownwardAPI != nil:
		kind, label = layout.DownwardAPI, source.DownwardAPI.VolumeLabel
	case source.ServiceAccount != nil:
		kind = layout.ServiceAccount
	case source.Sysprep != nil:
		kind, label = layout.Sysprep, labelSysprep
	case source.DownwardMetrics != nil:
		return invalid(at.Child("downwardMetrics"), "downward metrics as a disk are not available; remove the disk")
	case source.MemoryDump != nil:
		return invalid(at.Child("memoryDump"), "a memory dump volume cannot be shown to the guest; remove its disk")
	case source.ContainerPath != nil:
		return invalid(at.Child("containerPath"), "a container path can only be shared as a filesystem; remove its disk")
	default:
		return invalid(at, "the volume has no source this version knows; give it one, for example containerDisk")
	}
	spec.Kind, spec.Label = wire.DiskISO, labelConfig
	spec.Source, spec.Image = layout.Projected(kind, volume.Name), layout.ProjectedISO(kind, volume.Name)
	if label == "" {
		return nil
	}
	// ISO 9660 volume identifiers have 32 bytes (ECMA-119, 8.4.8).
	if len(label) > 32 {
		return invalid(at, "volumeLabel %q is longer than 32 characters", label)
	}
	spec.Label = label
	return nil
}
