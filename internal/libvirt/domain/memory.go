package domain

import (
	k8sv1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	v1 "kubevirt.io/api/core/v1"
	"libvirt.org/go/libvirtxml"
)

// hotplugBlock is the granularity of memory hot-plug without huge pages: a transparent huge page on amd64.
const hotplugBlock = 2 << 20

// GuestMemory is how much memory the guest sees, in bytes: memory.guest, else the memory request, else the limit. Zero means
// that the object names none.
func GuestMemory(vmi *v1.VirtualMachineInstance) int64 {
	spec := &vmi.Spec.Domain
	if spec.Memory != nil && spec.Memory.Guest != nil {
		return spec.Memory.Guest.Value()
	}
	for _, list := range []k8sv1.ResourceList{spec.Resources.Requests, spec.Resources.Limits} {
		if quantity, ok := list[k8sv1.ResourceMemory]; ok {
			return quantity.Value()
		}
	}
	if spec.Memory != nil && spec.Memory.Hugepages != nil {
		if page, err := resource.ParseQuantity(spec.Memory.Hugepages.PageSize); err == nil {
			return page.Value()
		}
	}
	return 0
}

func (b *builder) memory() error {
	guest := GuestMemory(b.vmi)
	if guest <= 0 {
		return invalid(domainPath().Child("memory", "guest"), "must be greater than zero; say how much memory the guest has")
	}
	boot := b.bootMemory(guest)
	b.dom.Memory = &libvirtxml.DomainMemory{Value: uint(boot), Unit: "b"}
	block := int64(hotplugBlock)
	if b.spec.Memory != nil && b.spec.Memory.Hugepages != nil {
		page, err := resource.ParseQuantity(b.spec.Memory.Hugepages.PageSize)
		if err != nil || page.Value() <= 0 {
			return invalid(domainPath().Child("memory", "hugepages", "pageSize"), "%q is not a size like 2Mi or 1Gi",
				b.spec.Memory.Hugepages.PageSize)
		}
		if boot%page.Value() != 0 {
			return invalid(domainPath().Child("memory", "guest"), "must be a multiple of the page size %s", page.String())
		}
		block = max(block, page.Value())
		b.dom.MemoryBacking = &libvirtxml.DomainMemoryBacking{
			MemoryHugePages: &libvirtxml.DomainMemoryHugepages{
				Hugepages: []libvirtxml.DomainMemoryHugepage{{Size: uint(page.Value()), Unit: "b"}},
			},
			// memfd needs no hugetlbfs mount that the launcher's user may write to.
			MemorySource: &libvirtxml.DomainMemorySource{Type: "memfd"},
		}
	}
	return b.memoryHotplug(boot, guest, block)
}

// pluggableMemory tells whether the object wants memory to grow while the guest runs.
func (b *builder) pluggableMemory() bool {
	return b.spec.Memory != nil && b.spec.Memory.MaxGuest != nil && b.arch.x86
}

// bootMemory is what the guest started with; what was plugged since is in a device.
func (b *builder) bootMemory(guest int64) int64 {
	status := b.vmi.Status.Memory
	if !b.pluggableMemory() || status == nil || status.GuestAtBoot == nil || status.GuestAtBoot.Value() <= 0 {
		return guest
	}
	return min(status.GuestAtBoot.Value(), guest)
}

// memoryHotplug adds the virtio-mem device through which memory grows up to maxGuest.
func (b *builder) memoryHotplug(boot, guest, block int64) error {
	if !b.pluggableMemory() {
		return nil
	}
	most := b.spec.Memory.MaxGuest.Value()
	if most < guest {
		return invalid(domainPath().Child("memory", "maxGuest"), "is less than the guest's memory")
	}
	size := (most - boot) / block * block
	if size == 0 {
		return nil
	}
	b.dom.MaximumMemory = &libvirtxml.DomainMaxMemory{Value: uint(boot + size), Unit: "b", Slots: 1}
	b.dom.Devices.Memorydevs = []libvirtxml.DomainMemorydev{{
		Model: "virtio-mem",
		Target: &libvirtxml.DomainMemorydevTarget{
			Size:      &libvirtxml.DomainMemorydevTargetSize{Value: uint(size), Unit: "b"},
			Node:      &libvirtxml.DomainMemorydevTargetNode{Value: 0},
			Block:     &libvirtxml.DomainMemorydevTargetBlock{Value: uint(block), Unit: "b"},
			Requested: &libvirtxml.DomainMemorydevTargetRequested{Value: uint((guest - boot) / block * block), Unit: "b"},
		},
		Alias: &libvirtxml.DomainAlias{Name: "ua-virtiomem"},
	}}
	return nil
}

// shareMemory lets another process of the pod (passt) see the guest's memory.
func (b *builder) shareMemory() {
	if b.dom.MemoryBacking == nil {
		b.dom.MemoryBacking = &libvirtxml.DomainMemoryBacking{}
	}
	b.dom.MemoryBacking.MemorySource = &libvirtxml.DomainMemorySource{Type: "memfd"}
	b.dom.MemoryBacking.MemoryAccess = &libvirtxml.DomainMemoryAccess{Mode: "shared"}
}
