package status

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	v1 "kubevirt.io/api/core/v1"
	"libvirt.org/go/libvirtxml"
)

// Domain is what a status tells of a domain's document.
type Domain struct {
	// Machine is the machine type in full, for example pc-q35-10.0.
	Machine     string
	Topology    v1.CPUTopology
	MemoryBytes int64
	// Targets maps a volume to its device's name.
	Targets map[string]string
	// Full tells of the volumes whose device has a medium in it: a drive may be empty.
	Full map[string]bool
	// LinkDown tells of each interface whether its cable is out.
	LinkDown map[string]bool
	// GrowsMemory tells that the guest has a memory device: what it has is what it started with and what is plugged.
	GrowsMemory bool
}

// Bounds of what is taken from a document that a launcher sent.
const (
	maxTargets = 256
	maxWord    = 128
)

// ParseDomain reads a domain's document.
func ParseDomain(doc string) (*Domain, error) {
	var dom libvirtxml.Domain
	if err := dom.Unmarshal(doc); err != nil {
		return nil, fmt.Errorf("read the domain's document: %w", err)
	}
	d := &Domain{Targets: map[string]string{}, Full: map[string]bool{}, LinkDown: map[string]bool{}}
	if dom.OS != nil && dom.OS.Type != nil && len(dom.OS.Type.Machine) <= maxWord {
		d.Machine = dom.OS.Type.Machine
	}
	if dom.CPU != nil && dom.CPU.Topology != nil {
		t := dom.CPU.Topology
		d.Topology = v1.CPUTopology{Sockets: uint32(t.Sockets), Cores: uint32(t.Cores), Threads: uint32(t.Threads)}
		if perSocket := uint(t.Cores * t.Threads); dom.VCPU != nil && dom.VCPU.Current != 0 && perSocket > 0 {
			d.Topology.Sockets = uint32(dom.VCPU.Current / perSocket)
		}
	}
	if m := dom.CurrentMemory; m != nil {
		d.MemoryBytes = toBytes(uint64(m.Value), m.Unit)
	}
	if dom.Devices == nil {
		return d, nil
	}
	d.GrowsMemory = len(dom.Devices.Memorydevs) > 0
	for _, i := range dom.Devices.Interfaces {
		if i.Alias == nil || len(d.LinkDown) >= maxTargets {
			continue
		}
		if name, ok := strings.CutPrefix(i.Alias.Name, "ua-"); ok && len(name) <= maxWord {
			d.LinkDown[name] = i.Link != nil && i.Link.State == "down"
		}
	}
	for _, disk := range dom.Devices.Disks {
		if disk.Alias == nil || disk.Target == nil || len(d.Targets) >= maxTargets {
			continue
		}
		if name, ok := strings.CutPrefix(disk.Alias.Name, "ua-"); ok && len(name) <= maxWord && len(disk.Target.Dev) <= maxWord {
			d.Targets[name] = disk.Target.Dev
			d.Full[name] = hasMedium(disk.Source)
		}
	}
	return d, nil
}

// hasMedium tells an empty drive, whose source libvirt writes without a name, from others.
func hasMedium(source *libvirtxml.DomainDiskSource) bool {
	switch {
	case source == nil:
		return false
	case source.File != nil:
		return source.File.File != ""
	case source.Block != nil:
		return source.Block.Dev != ""
	}
	return true
}

// toBytes knows the units libvirt writes.
func toBytes(value uint64, unit string) int64 {
	switch unit {
	case "b", "bytes":
	case "", "k", "KiB":
		value <<= 10
	case "M", "MiB":
		value <<= 20
	case "G", "GiB":
		value <<= 30
	default:
		return 0
	}
	return int64(value)
}

func quantity(bytes int64) *resource.Quantity { return resource.NewQuantity(bytes, resource.BinarySI) }
