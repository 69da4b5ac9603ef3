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
	d := &Domain{Targets: map[string]string{}}
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
	for _, disk := range dom.Devices.Disks {
		if disk.Alias == nil || disk.Target == nil || len(d.Targets) >= maxTargets {
			continue
		}
		if name, ok := strings.CutPrefix(disk.Alias.Name, "ua-"); ok && len(name) <= maxWord && len(disk.Target.Dev) <= maxWord {
			d.Targets[name] = disk.Target.Dev
		}
	}
	return d, nil
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
