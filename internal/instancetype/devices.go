package instancetype

import (
	v1 "kubevirt.io/api/core/v1"
	"kubevirt.io/api/instancetype/v1beta1"
)

// preferAutoattach comes before everything else: it decides which devices there are to have preferences about.
func preferAutoattach(p *v1beta1.DevicePreferences, d *v1.Devices) {
	if p == nil {
		return
	}
	fill(&d.AutoattachGraphicsDevice, p.PreferredAutoattachGraphicsDevice)
	fill(&d.AutoattachMemBalloon, p.PreferredAutoattachMemBalloon)
	fill(&d.AutoattachPodInterface, p.PreferredAutoattachPodInterface)
	fill(&d.AutoattachSerialConsole, p.PreferredAutoattachSerialConsole)
	fill(&d.AutoattachInputDevice, p.PreferredAutoattachInputDevice)
}

func preferDisks(p *v1beta1.DevicePreferences, d *v1.Devices) {
	for i := range d.Disks {
		disk := &d.Disks[i]
		switch {
		case disk.CDRom != nil:
			fillValue(&disk.CDRom.Bus, p.PreferredCdromBus)
		case disk.LUN != nil:
			fillValue(&disk.LUN.Bus, p.PreferredLunBus)
		default:
			if disk.Disk == nil && p.PreferredDiskBus != "" {
				disk.Disk = &v1.DiskTarget{}
			}
			if disk.Disk != nil {
				fillValue(&disk.Disk.Bus, p.PreferredDiskBus)
				preferThread(p, disk)
			}
		}
		fillValue(&disk.Cache, p.PreferredDiskCache)
		fillValue(&disk.IO, p.PreferredDiskIO)
		fill(&disk.BlockSize, p.PreferredDiskBlockSize)
	}
}

func preferThread(p *v1beta1.DevicePreferences, disk *v1.Disk) {
	if disk.Disk.Bus == v1.DiskBusVirtio {
		fill(&disk.DedicatedIOThread, p.PreferredDiskDedicatedIoThread)
	}
}

func preferDevices(p *v1beta1.DevicePreferences, d *v1.Devices) {
	if isTrue(p.PreferredDisableHotplug) {
		d.DisableHotplug = true
	}
	for i := range d.Interfaces {
		preferInterface(p, &d.Interfaces[i])
	}
	for i := range d.Inputs {
		fillValue(&d.Inputs[i].Bus, p.PreferredInputBus)
		fillValue(&d.Inputs[i].Type, p.PreferredInputType)
	}
	for i := range d.GPUs {
		fill(&d.GPUs[i].VirtualGPUOptions, p.PreferredVirtualGPUOptions)
	}
	if d.Sound != nil {
		fillValue(&d.Sound.Model, p.PreferredSoundModel)
	}
	if p.PreferredPanicDeviceModel != nil {
		for i := range d.PanicDevices {
			fill(&d.PanicDevices[i].Model, p.PreferredPanicDeviceModel)
		}
	}
	if p.PreferredVideoType != nil && d.Video == nil {
		d.Video = &v1.VideoDevice{Type: *p.PreferredVideoType}
	}
	fill(&d.UseVirtioTransitional, p.PreferredUseVirtioTransitional)
	fill(&d.Rng, p.PreferredRng)
	fill(&d.BlockMultiQueue, p.PreferredBlockMultiQueue)
	fill(&d.NetworkInterfaceMultiQueue, p.PreferredNetworkInterfaceMultiQueue)
	preferTPM(p.PreferredTPM, d)
}

func preferInterface(p *v1beta1.DevicePreferences, i *v1.Interface) {
	fillValue(&i.Model, p.PreferredInterfaceModel)
	method := i.InterfaceBindingMethod
	if p.PreferredInterfaceMasquerade != nil && method == (v1.InterfaceBindingMethod{}) && i.Binding == nil {
		i.Masquerade = p.PreferredInterfaceMasquerade.DeepCopy()
	}
}

// preferTPM leaves a machine alone that switches its TPM off.
func preferTPM(p *v1.TPMDevice, d *v1.Devices) {
	if p == nil {
		return
	}
	if d.TPM == nil {
		d.TPM = p.DeepCopy()
	}
}
