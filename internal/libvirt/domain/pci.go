package domain

import (
	v1 "kubevirt.io/api/core/v1"
	"libvirt.org/go/libvirtxml"
)

// The contract's room for devices that are plugged later. Guests above largeGuest bytes get more.
const (
	minPorts, minFree           = 8, 3
	largeMinPorts, largeMinFree = 16, 6
	largeGuest                  = 2 << 30
	// reservedInterfaces buses belong to interfaces, so that adding one does not rename the devices after it.
	reservedInterfaces = 4
	// maxPorts is the highest bus that spare ports go up to.
	maxPorts = 31
)

// pciTopology gives every PCI Express device a root port of its own (bus n is behind port n) and adds spare ports. Addresses
// are fixed here and not left to libvirt, so that they stay the same over restarts, versions and migrations.
func (b *builder) pciTopology() error {
	if !b.arch.pcie {
		return nil
	}
	if b.vmi.Annotations[v1.PlacePCIDevicesOnRootComplex] == "true" {
		b.rootComplex()
		return nil
	}
	interfaces, others := b.pciDevices()
	taken := b.takenBuses()
	next := uint(1)
	place := func(address **libvirtxml.DomainAddress) {
		for taken[next] {
			next++
		}
		*address = pciAt(0, next, 0, 0)
		next++
	}
	for _, address := range interfaces {
		place(address)
	}
	free := uint(0)
	for next <= reservedInterfaces {
		if !taken[next] {
			free++
		}
		next++
	}
	for _, address := range others {
		place(address)
	}
	next += b.libvirtPlaced()
	b.rootPorts(next-1, free)
	return nil
}

func (b *builder) rootPorts(used, free uint) {
	ports := used
	if !b.spec.Devices.DisableHotplug {
		least, spare := uint(minPorts), uint(minFree)
		if b.dom.Memory.Value > largeGuest {
			least, spare = largeMinPorts, largeMinFree
		}
		if free < spare {
			ports += spare - free
		}
		ports = max(ports, least)
	}
	if ports > maxPorts {
		ports = max(used, maxPorts)
	}
	controllers := &b.dom.Devices.Controllers
	*controllers = append(*controllers, libvirtxml.DomainController{Type: "pci", Index: uintPtr(0), Model: "pcie-root"})
	for port := uint(1); port <= ports; port++ {
		*controllers = append(*controllers, libvirtxml.DomainController{Type: "pci", Index: uintPtr(port), Model: "pcie-root-port"})
	}
}

// rootComplex puts devices beside the chipset, without ports between: nothing can be plugged, and boot is faster.
func (b *builder) rootComplex() {
	interfaces, others := b.pciDevices()
	// Slots 0 and 1 are the host bridge and the display, 0x1b and above the chipset's own.
	slot, taken := uint(2), b.takenSlots()
	for _, address := range append(interfaces, others...) {
		for taken[slot] {
			slot++
		}
		if slot >= 0x1b {
			return // libvirt places the rest
		}
		*address = pciAt(0, 0, slot, 0)
		slot++
	}
}

// takenBuses are those that the object's own pciAddress fields name.
func (b *builder) takenBuses() map[uint]bool {
	taken := map[uint]bool{}
	b.eachFixed(func(address *libvirtxml.DomainAddressPCI) { taken[*address.Bus] = true })
	return taken
}

// takenSlots are those beside the chipset that the object's own pciAddress fields name.
func (b *builder) takenSlots() map[uint]bool {
	taken := map[uint]bool{}
	b.eachFixed(func(address *libvirtxml.DomainAddressPCI) {
		if *address.Bus == 0 {
			taken[*address.Slot] = true
		}
	})
	return taken
}

func (b *builder) eachFixed(visit func(*libvirtxml.DomainAddressPCI)) {
	note := func(address *libvirtxml.DomainAddress) {
		if address != nil && address.PCI != nil && *address.PCI.Domain == 0 {
			visit(address.PCI)
		}
	}
	devices := b.dom.Devices
	for i := range devices.Interfaces {
		note(devices.Interfaces[i].Address)
	}
	for i := range devices.Disks {
		note(devices.Disks[i].Address)
	}
	for i := range devices.Hostdevs {
		note(devices.Hostdevs[i].Address)
	}
}

// express tells whether a virtio device of this model is a PCI Express endpoint. Transitional ones are conventional PCI
// devices, which libvirt puts behind a bridge.
func express(model string) bool { return model != "virtio-transitional" }

// pciDevices lists where to write the addresses of devices that want a root port: interfaces first, and last what users add
// and remove most, so that the others keep their place.
func (b *builder) pciDevices() (interfaces, others []**libvirtxml.DomainAddress) {
	devices := b.dom.Devices
	for i := range devices.Interfaces {
		if device := &devices.Interfaces[i]; device.Address == nil && expressNIC(device.Model.Type) {
			interfaces = append(interfaces, &device.Address)
		}
	}
	for i := range devices.Controllers {
		device := &devices.Controllers[i]
		if device.Type == "usb" && device.Model == "qemu-xhci" ||
			(device.Type == "scsi" || device.Type == "virtio-serial") && express(device.Model) {
			others = append(others, &device.Address)
		}
	}
	if balloon := devices.MemBalloon; balloon != nil && balloon.Model != "none" && express(balloon.Model) {
		others = append(others, &balloon.Address)
	}
	for i := range devices.RNGs {
		if express(devices.RNGs[i].Model) {
			others = append(others, &devices.RNGs[i].Address)
		}
	}
	if devices.VSock != nil && express(devices.VSock.Model) {
		others = append(others, &devices.VSock.Address)
	}
	for i := range devices.Memorydevs {
		others = append(others, &devices.Memorydevs[i].Address)
	}
	for i := range devices.Inputs {
		if device := &devices.Inputs[i]; device.Bus == string(v1.InputBusVirtio) {
			others = append(others, &device.Address)
		}
	}
	for i := range devices.Hostdevs {
		if device := &devices.Hostdevs[i]; device.SubsysUSB == nil && device.Address == nil {
			others = append(others, &device.Address)
		}
	}
	for i := range devices.Disks {
		if device := &devices.Disks[i]; device.Model != "" && express(device.Model) && device.Address == nil {
			others = append(others, &device.Address)
		}
	}
	return interfaces, others
}

func expressNIC(model string) bool {
	switch model {
	case "virtio", "virtio-non-transitional", "e1000e", "igb":
		return true
	}
	return false
}

// libvirtPlaced counts the ports that libvirt itself will use: one for a bridge to conventional PCI devices, one for a virtio
// display that is not part of the chipset.
func (b *builder) libvirtPlaced() uint {
	count := uint(0)
	if len(b.dom.Devices.Watchdogs) > 0 || isTrue(b.spec.Devices.UseVirtioTransitional) && b.arch.x86 {
		count = 1
	}
	for i := range b.dom.Devices.Interfaces {
		if !expressNIC(b.dom.Devices.Interfaces[i].Model.Type) {
			count = 1
		}
	}
	if !b.arch.x86 && len(b.dom.Devices.Videos) > 0 {
		count++
	}
	return count
}
