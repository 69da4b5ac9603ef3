package domain

import (
	v1 "kubevirt.io/api/core/v1"
	"libvirt.org/go/libvirtxml"
)

// controllers comes last: it depends on what all other devices need.
func (b *builder) controllers() error {
	controllers := &b.dom.Devices.Controllers
	usb := "none"
	if b.usesUSB() {
		usb = "qemu-xhci"
	}
	if b.arch.usb {
		*controllers = append(*controllers, libvirtxml.DomainController{Type: "usb", Index: uintPtr(0), Model: usb})
	}
	if !b.spec.Devices.DisableHotplug || b.usesBus(v1.DiskBusSCSI) {
		model := "virtio-scsi"
		if b.arch.x86 {
			model = b.virtio()
		}
		scsi := libvirtxml.DomainController{Type: "scsi", Index: uintPtr(0), Model: model}
		if b.threads.total() > 0 {
			scsi.Driver = &libvirtxml.DomainControllerDriver{IOThread: 1}
		}
		if isTrue(b.spec.Devices.BlockMultiQueue) {
			if scsi.Driver == nil {
				scsi.Driver = &libvirtxml.DomainControllerDriver{}
			}
			scsi.Driver.Queues = uintPtr(b.vcpus)
		}
		*controllers = append(*controllers, scsi)
	}
	*controllers = append(*controllers, libvirtxml.DomainController{Type: "virtio-serial", Index: uintPtr(0), Model: b.virtioSerial()})
	b.bootOrder()
	return b.pciTopology()
}

func (b *builder) virtioSerial() string {
	if b.arch.x86 {
		return b.virtio()
	}
	return ""
}

func (b *builder) usesBus(bus v1.DiskBus) bool {
	for i := range b.dom.Devices.Disks {
		if b.dom.Devices.Disks[i].Target.Bus == string(bus) {
			return true
		}
	}
	return false
}

func (b *builder) usesUSB() bool {
	if b.usesBus(v1.DiskBusUSB) || len(b.dom.Devices.RedirDevs) > 0 {
		return true
	}
	for i := range b.dom.Devices.Inputs {
		if b.dom.Devices.Inputs[i].Bus == string(v1.InputBusUSB) {
			return true
		}
	}
	for i := range b.dom.Devices.Hostdevs {
		if b.dom.Devices.Hostdevs[i].SubsysUSB != nil {
			return true
		}
	}
	return false
}

// bootOrder lets a guest whose object names no order try its disks as they are listed. Images that virt-launcher makes from
// ConfigMaps and the like never boot and are not tried.
func (b *builder) bootOrder() {
	devices := b.dom.Devices
	for i := range devices.Interfaces {
		if devices.Interfaces[i].Boot != nil {
			return
		}
	}
	for i := range devices.Hostdevs {
		if devices.Hostdevs[i].Boot != nil {
			return
		}
	}
	for i := range devices.Disks {
		if devices.Disks[i].Boot != nil {
			return
		}
	}
	index := volumesByName(b.vmi)
	order := uint(1)
	for i := range devices.Disks {
		at, ok := index[devices.Disks[i].Alias.Name[len("ua-"):]]
		if !ok || !bootable(&b.vmi.Spec.Volumes[at]) {
			continue
		}
		devices.Disks[i].Boot = &libvirtxml.DomainDeviceBoot{Order: order}
		order++
	}
}

func bootable(volume *v1.Volume) bool {
	source := &volume.VolumeSource
	return source.ContainerDisk != nil || source.PersistentVolumeClaim != nil || source.DataVolume != nil ||
		source.Ephemeral != nil || source.EmptyDisk != nil || source.HostDisk != nil
}
