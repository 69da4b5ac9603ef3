package domain

import (
	"strconv"

	k8sv1 "k8s.io/api/core/v1"
	v1 "kubevirt.io/api/core/v1"
	"libvirt.org/go/libvirtxml"
)

// topology is the shape of the guest's processors. max is the number of sockets there is room for.
type topology struct{ sockets, max, cores, threads uint64 }

func (t topology) perSocket() uint64 { return t.cores * t.threads }

// cpuTopology reads the shape; an object without one gets as many sockets as it requests processors (contract).
func cpuTopology(spec *v1.DomainSpec) topology {
	t := topology{sockets: 1, cores: 1, threads: 1}
	if spec.CPU != nil {
		t = topology{
			sockets: uint64(max(spec.CPU.Sockets, 1)), max: uint64(spec.CPU.MaxSockets),
			cores: uint64(max(spec.CPU.Cores, 1)), threads: uint64(max(spec.CPU.Threads, 1)),
		}
	}
	if spec.CPU == nil || spec.CPU.Sockets == 0 && spec.CPU.Cores == 0 && spec.CPU.Threads == 0 {
		for _, list := range []k8sv1.ResourceList{spec.Resources.Limits, spec.Resources.Requests} {
			if quantity, ok := list[k8sv1.ResourceCPU]; ok && quantity.Value() > 0 {
				t.sockets = uint64(quantity.Value())
				break
			}
		}
	}
	t.max = max(t.max, t.sockets)
	return t
}

// VCPUs is how many virtual processors the guest starts with.
func VCPUs(vmi *v1.VirtualMachineInstance) uint64 {
	t := cpuTopology(&vmi.Spec.Domain)
	return t.sockets * t.perSocket()
}

// eimVCPUs is from how many processors on x86 needs interrupt remapping with extended destinations.
const eimVCPUs = 255

func (b *builder) cpu() error {
	b.topo = cpuTopology(b.spec)
	limit := b.arch.maxVCPUs
	for _, factor := range []uint64{b.topo.cores, b.topo.threads, b.topo.max} {
		if factor > limit {
			return b.tooManyVCPUs(limit)
		}
	}
	if b.topo.max*b.topo.perSocket() > limit {
		return b.tooManyVCPUs(limit)
	}
	b.vcpus, b.maxVCPUs = uint(b.topo.sockets*b.topo.perSocket()), uint(b.topo.max*b.topo.perSocket())
	b.dom.VCPU = &libvirtxml.DomainVCPU{Placement: "static", Value: b.maxVCPUs}
	if b.maxVCPUs > b.vcpus {
		b.dom.VCPU.Current = b.vcpus
		b.dom.VCPUs = hotplugVCPUs(b.topo)
	}
	b.dom.CPU = &libvirtxml.DomainCPU{Topology: &libvirtxml.DomainCPUTopology{
		Sockets: int(b.topo.max), Cores: int(b.topo.cores), Threads: int(b.topo.threads),
	}}
	if err := b.cpuModel(); err != nil {
		return err
	}
	if err := b.cpuFeatures(); err != nil {
		return err
	}
	if len(b.dom.Devices.Memorydevs) > 0 {
		// libvirt plugs memory into NUMA cells only.
		b.dom.CPU.Numa = &libvirtxml.DomainNuma{Cell: []libvirtxml.DomainCell{{
			ID: uintPtr(0), CPUs: cpuRange(b.maxVCPUs), Memory: b.dom.Memory.Value, Unit: "b",
		}}}
	}
	return nil
}

func (b *builder) tooManyVCPUs(limit uint64) error {
	return invalid(domainPath().Child("cpu"), "more than %d virtual processors; reduce sockets, maxSockets, cores or threads", limit)
}

func cpuRange(count uint) string {
	if count == 1 {
		return "0"
	}
	return "0-" + strconv.FormatUint(uint64(count-1), 10)
}

// hotplugVCPUs lists every processor. Those of the first socket stay; the others can be plugged.
func hotplugVCPUs(t topology) *libvirtxml.DomainVCPUs {
	vcpus := &libvirtxml.DomainVCPUs{}
	present := t.sockets * t.perSocket()
	for id := range t.max * t.perSocket() {
		vcpus.VCPU = append(vcpus.VCPU, libvirtxml.DomainVCPUsVCPU{
			Id: uintPtr(uint(id)), Enabled: yesNo(id < present), Hotpluggable: yesNo(id >= t.perSocket()),
		})
	}
	return vcpus
}

func (b *builder) cpuModel() error {
	model := b.in.Cluster.CPUModel
	if model == "" {
		model = v1.CPUModeHostModel
	}
	if model == v1.CPUModeHostModel && !b.arch.cpuModels {
		model = v1.CPUModeHostPassthrough
	}
	if b.spec.CPU != nil && b.spec.CPU.Model != "" {
		model = b.spec.CPU.Model
	}
	switch {
	case !b.arch.cpuModels && b.in.Host.KVM && model != v1.CPUModeHostPassthrough:
		return invalid(domainPath().Child("cpu", "model"), "%s has no models under KVM; use %s", b.arch.name, v1.CPUModeHostPassthrough)
	case model == v1.CPUModeHostModel || model == v1.CPUModeHostPassthrough:
		b.dom.CPU.Mode = model
		if !b.in.Host.KVM {
			b.emulatedCPU()
		}
	default:
		b.dom.CPU.Mode = "custom"
		b.dom.CPU.Match = "exact"
		b.dom.CPU.Model = &libvirtxml.DomainCPUModel{Value: model, Fallback: "forbid"}
		if !b.in.Host.KVM {
			// QEMU's translator implements most models only in part; a guest that asked for one gets what there is of it.
			b.dom.CPU.Check = "none"
			b.dom.CPU.Model.Fallback = "allow"
		}
		if b.arch.x86 {
			b.dom.CPU.Features = append(b.dom.CPU.Features, libvirtxml.DomainCPUFeature{Policy: "disable", Name: "mpx"})
		}
	}
	return nil
}

// emulatedCPU is what host-model and host-passthrough mean when QEMU translates: everything its translator can do. That
// depends on QEMU alone and not on the node's processor, so a guest can migrate between any two nodes whose launchers have the
// same QEMU, and to a newer one. The named baseline qemu64 would migrate as well, but distributions built for x86-64-v2 and
// later do not start on it; libvirt's own host-model names a real processor plus forty exceptions and says the same less
// directly.
func (b *builder) emulatedCPU() {
	b.dom.CPU.Mode = "maximum"
	if b.arch.x86 {
		// Five-level page tables make every address translation dearer, a tenth of a small guest's boot, and serve guests of
		// more than 64 TiB.
		b.setFeature("la57", "disable")
	}
}

func (b *builder) cpuFeatures() error {
	if b.spec.CPU == nil {
		return nil
	}
	for i, feature := range b.spec.CPU.Features {
		at := domainPath().Child("cpu", "features").Index(i)
		if feature.Name == "" {
			return invalid(at.Child("name"), "must not be empty")
		}
		policy := feature.Policy
		switch policy {
		case "":
			policy = "require"
		case "force", "require", "optional", "disable", "forbid":
		default:
			return invalid(at.Child("policy"), "%q is not one of force, require, optional, disable, forbid", policy)
		}
		b.setFeature(feature.Name, policy)
	}
	return nil
}

// setFeature keeps one entry per feature; libvirt refuses two.
func (b *builder) setFeature(name, policy string) {
	for i := range b.dom.CPU.Features {
		if b.dom.CPU.Features[i].Name == name {
			b.dom.CPU.Features[i].Policy = policy
			return
		}
	}
	b.dom.CPU.Features = append(b.dom.CPU.Features, libvirtxml.DomainCPUFeature{Policy: policy, Name: name})
}
