package domain

import (
	"slices"
	"strconv"
	"strings"

	"libvirt.org/go/libvirtxml"
)

// cpuPlacement pins processors to the pod's exclusive ones.
func (b *builder) cpuPlacement() error {
	cpu := b.spec.CPU
	if cpu == nil {
		return nil
	}
	at := domainPath().Child("cpu")
	switch {
	case cpu.Realtime != nil:
		return invalid(at.Child("realtime"), "real-time scheduling is not available; remove the field")
	case cpu.IsolateEmulatorThread && !cpu.DedicatedCPUPlacement:
		return invalid(at.Child("isolateEmulatorThread"), "needs dedicatedCpuPlacement: true")
	case cpu.NUMA != nil && cpu.NUMA.GuestMappingPassthrough != nil && !cpu.DedicatedCPUPlacement:
		return invalid(at.Child("numa", "guestMappingPassthrough"), "needs dedicatedCpuPlacement: true")
	case !cpu.DedicatedCPUPlacement:
		return nil
	}
	cpus := slices.Clone(b.in.CPUSet)
	slices.Sort(cpus)
	cpus = slices.Compact(cpus)
	need := int(b.vcpus)
	if cpu.IsolateEmulatorThread {
		need++
	}
	if len(cpus) < need {
		return invalid(at.Child("dedicatedCpuPlacement"),
			"the pod was given %d exclusive processors and needs %d; is the node's CPU manager policy static?", len(cpus), need)
	}
	tune := &libvirtxml.DomainCPUTune{}
	for i := range b.vcpus {
		tune.VCPUPin = append(tune.VCPUPin, libvirtxml.DomainCPUTuneVCPUPin{VCPU: i, CPUSet: strconv.Itoa(cpus[i])})
	}
	if cpu.IsolateEmulatorThread {
		tune.EmulatorPin = &libvirtxml.DomainCPUTuneEmulatorPin{CPUSet: cpuList(cpus[b.vcpus:])}
	}
	b.dom.CPUTune = tune
	if cpu.NUMA != nil && cpu.NUMA.GuestMappingPassthrough != nil {
		return b.guestNUMA(cpus[:b.vcpus])
	}
	return nil
}

// pinIOThreads puts iothreads beside the emulator, or on any of the pod's processors when that has none of its own.
func (b *builder) pinIOThreads() {
	if b.dom.CPUTune == nil {
		return
	}
	set := cpuList(b.in.CPUSet)
	if b.dom.CPUTune.EmulatorPin != nil {
		set = b.dom.CPUTune.EmulatorPin.CPUSet
	}
	for id := uint(1); id <= b.dom.IOThreads; id++ {
		b.dom.CPUTune.IOThreadPin = append(b.dom.CPUTune.IOThreadPin, libvirtxml.DomainCPUTuneIOThreadPin{IOThread: id, CPUSet: set})
	}
}

// guestNUMA gives the guest one cell per host node that its processors are on, with the memory divided in proportion and
// taken from that node only.
func (b *builder) guestNUMA(cpus []int) error {
	at := domainPath().Child("cpu", "numa", "guestMappingPassthrough")
	if b.dom.MemoryBacking == nil || b.dom.MemoryBacking.MemoryHugePages == nil {
		return invalid(at, "needs memory.hugepages")
	}
	if b.maxVCPUs != b.vcpus || len(b.dom.Devices.Memorydevs) > 0 {
		return invalid(at, "cannot be combined with maxSockets or maxGuest; set them to the present size")
	}
	page := b.dom.MemoryBacking.MemoryHugePages.Hugepages[0].Size
	pages := b.dom.Memory.Value / page
	numa, tune := &libvirtxml.DomainNuma{}, &libvirtxml.DomainNUMATune{}
	var nodes []string
	seen, given := 0, uint(0)
	for _, node := range b.in.Host.NUMA {
		var vcpus []int
		for vcpu, cpu := range cpus {
			if slices.Contains(node.CPUs, cpu) {
				vcpus = append(vcpus, vcpu)
			}
		}
		if len(vcpus) == 0 {
			continue
		}
		seen += len(vcpus)
		// Cumulative rounding: the cells' pages add up exactly.
		upTo := pages * uint(seen) / b.vcpus
		cell := uint(len(numa.Cell))
		numa.Cell = append(numa.Cell, libvirtxml.DomainCell{
			ID: uintPtr(cell), CPUs: cpuList(vcpus), Memory: (upTo - given) * page, Unit: "b",
		})
		given = upTo
		nodes = append(nodes, strconv.Itoa(node.ID))
		tune.MemNodes = append(tune.MemNodes, libvirtxml.DomainNUMATuneMemNode{
			CellID: cell, Mode: "strict", Nodeset: strconv.Itoa(node.ID),
		})
	}
	if seen != len(cpus) {
		return invalid(at, "the node's NUMA layout does not list all of the pod's processors")
	}
	for _, cell := range numa.Cell {
		if cell.Memory == 0 {
			return invalid(at, "the guest's memory is less than one huge page for each of %d NUMA nodes", len(numa.Cell))
		}
	}
	tune.Memory = &libvirtxml.DomainNUMATuneMemory{Mode: "strict", Nodeset: strings.Join(nodes, ",")}
	b.dom.CPU.Numa, b.dom.NUMATune = numa, tune
	return nil
}

func cpuList(cpus []int) string {
	words := make([]string, len(cpus))
	for i, cpu := range cpus {
		words[i] = strconv.Itoa(cpu)
	}
	return strings.Join(words, ",")
}
