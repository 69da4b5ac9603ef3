package domain

import (
	"fmt"

	v1 "kubevirt.io/api/core/v1"
	"libvirt.org/go/libvirtxml"
)

// MemoryDevice is the XML that lets a running guest have the memory that the object names now; "" if its device offers that
// already, or the guest has none to grow by.
func MemoryDevice(doc string, vmi *v1.VirtualMachineInstance) (string, error) {
	var dom libvirtxml.Domain
	if err := dom.Unmarshal(doc); err != nil {
		return "", fmt.Errorf("read the domain's document: %w", err)
	}
	if dom.Devices == nil || vmi.Status.Memory == nil || vmi.Status.Memory.GuestAtBoot == nil {
		return "", nil
	}
	more := max(GuestMemory(vmi)-vmi.Status.Memory.GuestAtBoot.Value(), 0)
	for i := range dom.Devices.Memorydevs {
		device := &dom.Devices.Memorydevs[i]
		target := device.Target
		if device.Model != "virtio-mem" || target == nil || target.Requested == nil || target.Block == nil || target.Size == nil {
			continue
		}
		block := bytesOf(target.Block.Value, target.Block.Unit)
		if block == 0 {
			return "", nil
		}
		requested := min(uint(more)/block*block, bytesOf(target.Size.Value, target.Size.Unit))
		if bytesOf(target.Requested.Value, target.Requested.Unit) == requested {
			return "", nil
		}
		target.Requested = &libvirtxml.DomainMemorydevTargetRequested{Value: requested, Unit: "b"}
		out, err := device.Marshal()
		if err != nil {
			return "", fmt.Errorf("write the memory device: %w", err)
		}
		return out, nil
	}
	return "", nil
}

// bytesOf knows the units libvirt writes.
func bytesOf(value uint, unit string) uint {
	switch unit {
	case "b", "bytes":
		return value
	case "", "KiB", "k":
		return value << 10
	case "MiB", "M":
		return value << 20
	case "GiB", "G":
		return value << 30
	}
	return 0
}

// LinkState is the XML that sets the links of a running domain's interfaces to what the object says, one for each that differs.
func LinkState(doc string, vmi *v1.VirtualMachineInstance) ([]string, error) {
	var dom libvirtxml.Domain
	if err := dom.Unmarshal(doc); err != nil {
		return nil, fmt.Errorf("read the domain's document: %w", err)
	}
	if dom.Devices == nil {
		return nil, nil
	}
	wanted := map[string]string{}
	for _, i := range vmi.Spec.Domain.Devices.Interfaces {
		switch i.State {
		case v1.InterfaceStateLinkDown:
			wanted["ua-"+i.Name] = "down"
		case v1.InterfaceStateLinkUp, "":
			wanted["ua-"+i.Name] = "up"
		}
	}
	var out []string
	for n := range dom.Devices.Interfaces {
		device := &dom.Devices.Interfaces[n]
		if device.Alias == nil || wanted[device.Alias.Name] == "" {
			continue
		}
		now := "up"
		if device.Link != nil && device.Link.State != "" {
			now = device.Link.State
		}
		if now == wanted[device.Alias.Name] {
			continue
		}
		device.Link = &libvirtxml.DomainInterfaceLink{State: wanted[device.Alias.Name]}
		xml, err := device.Marshal()
		if err != nil {
			return nil, fmt.Errorf("write interface %s: %w", device.Alias.Name, err)
		}
		out = append(out, xml)
	}
	return out, nil
}
