package rules

import (
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/server/api/admission/defaults"
)

const (
	requestsMemory = "resources.requests.memory"
	limitsMemory   = "resources.limits.memory"
	maxVCPUs       = 4096
)

func below(at *field.Path, path string) *field.Path {
	for _, part := range strings.Split(path, ".") {
		at = at.Child(part)
	}
	return at
}

func machine(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	arch := at.Child("architecture")
	enum(c, arch, spec.Architecture, "amd64", "arm64", "s390x")
	m := spec.Domain.Machine
	if m == nil || m.Type == "" {
		return
	}
	globs := c.cluster.Machines.For(spec.Architecture).Emulated
	for _, glob := range globs {
		if ok, err := path.Match(glob, m.Type); ok && err == nil {
			return
		}
	}
	c.invalid(below(at, "domain.machine.type"), "%s is not supported: %s (allowed values: %v)",
		below(at, "domain.machine.type"), m.Type, globs)
}

// memory is what the guest gets and what its pod may use for it.
func memory(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	domain := at.Child("domain")
	request, limit := spec.Domain.Resources.Requests.Memory(), spec.Domain.Resources.Limits.Memory()
	least := resource.MustParse("1M")
	switch {
	case request.Sign() < 0:
		c.invalid(below(domain, requestsMemory), "%s '%s': must be greater than or equal to 0.", below(domain, requestsMemory), request)
	case request.Sign() > 0 && request.Cmp(least) < 0:
		c.invalid(below(domain, requestsMemory), "%s '%s': must be greater than or equal to 1M.", below(domain, requestsMemory), request)
	}
	if limit.Sign() < 0 {
		c.invalid(below(domain, limitsMemory), "%s '%s': must be greater than or equal to 0.", below(domain, limitsMemory), limit)
	}
	if limit.Sign() > 0 && request.Cmp(*limit) > 0 {
		c.invalid(below(domain, requestsMemory), "%s '%s' is greater than %s '%s'",
			below(domain, requestsMemory), request, below(domain, limitsMemory), limit)
	}
	m := spec.Domain.Memory
	if m == nil || m.Guest == nil {
		if !c.template && lacksMemory(spec) {
			c.required(below(domain, "memory.guest"), "no memory requested, at least one of '%s', '%s' or '%s' must be set",
				below(domain, "memory.guest"), below(domain, "memory.hugepages.size"), below(domain, requestsMemory))
		}
		return
	}
	guestMemory(c, below(domain, "memory"), domain, spec)
}

func lacksMemory(spec *v1.VirtualMachineInstanceSpec) bool {
	m := spec.Domain.Memory
	return spec.Domain.Resources.Requests.Memory().IsZero() && spec.Domain.Resources.Limits.Memory().IsZero() &&
		(m == nil || m.Guest == nil && m.Hugepages == nil)
}

// Lacking warns of what a template lacks without which nothing can be made of it.
func Lacking(at *field.Path, spec *v1.VirtualMachineInstanceSpec) []string {
	if !lacksMemory(spec) {
		return nil
	}
	return []string{fmt.Sprintf("%s is missing: the machine cannot start until it is set, or an instance type or a preset of the namespace brings it.",
		below(at, "domain.memory.guest"))}
}

func guestMemory(c *Check, at, domain *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	m, limit := spec.Domain.Memory, spec.Domain.Resources.Limits.Memory()
	guest := at.Child("guest")
	switch {
	case m.Guest.Sign() <= 0:
		c.invalid(guest, "%s '%s': must be greater than 0.", guest, m.Guest)
	case m.Guest.Cmp(resource.MustParse("1M")) < 0:
		c.invalid(guest, "%s '%s': must be greater than or equal to 1M.", guest, m.Guest)
	case limit.Sign() > 0 && m.Guest.Cmp(*limit) > 0:
		c.invalid(guest, "%s '%s' must be equal to or less than the memory limit %s '%s'", guest, m.Guest, below(domain, limitsMemory), limit)
	}
	if m.MaxGuest == nil {
		return
	}
	if err := defaults.MemoryHotplug(spec, m.MaxGuest); err != nil {
		c.invalid(at.Child("maxGuest"), "%s", err)
	}
}

func hugepages(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	m := spec.Domain.Memory
	if m == nil || m.Hugepages == nil {
		return
	}
	domain := at.Child("domain")
	size := below(domain, "memory.hugepages.pageSize")
	page, err := resource.ParseQuantity(m.Hugepages.PageSize)
	if err != nil {
		c.invalid(size, "%s '%s': %s", size, m.Hugepages.PageSize, err)
		return
	}
	if page.Sign() <= 0 {
		c.invalid(size, "%s '%s': must be greater than 0.", size, m.Hugepages.PageSize)
		return
	}
	for _, of := range []struct {
		at *field.Path
		q  *resource.Quantity
	}{{below(domain, requestsMemory), spec.Domain.Resources.Requests.Memory()}, {below(domain, "memory.guest"), m.Guest}} {
		switch {
		case of.q == nil || of.q.Sign() <= 0:
		case of.q.Cmp(page) < 0:
			c.invalid(of.at, "%s '%s' must be equal to or larger than page size %s '%s'", of.at, of.q, size, m.Hugepages.PageSize)
		case of.q.Value()%page.Value() != 0:
			c.invalid(of.at, "%s '%s' is not a multiple of the page size %s '%s'", of.at, of.q, size, m.Hugepages.PageSize)
		}
	}
	request, limit := spec.Domain.Resources.Requests.Memory(), spec.Domain.Resources.Limits.Memory()
	if limit.Sign() > 0 && request.Cmp(*limit) != 0 {
		c.invalid(below(domain, requestsMemory), "%s '%s' must be equal to %s '%s' with hugepages",
			below(domain, requestsMemory), request, below(domain, limitsMemory), limit)
	}
}

func cpu(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	domain := at.Child("domain")
	r := spec.Domain.Resources
	requestAt, limitAt := below(domain, "resources.requests.cpu"), below(domain, "resources.limits.cpu")
	if r.Requests.Cpu().Sign() < 0 {
		c.invalid(requestAt, "%s '%s': must be greater than or equal to 0.", requestAt, r.Requests.Cpu())
	}
	if r.Limits.Cpu().Sign() < 0 {
		c.invalid(limitAt, "%s '%s': must be greater than or equal to 0.", limitAt, r.Limits.Cpu())
	}
	if r.Limits.Cpu().Sign() > 0 && r.Requests.Cpu().Cmp(*r.Limits.Cpu()) > 0 {
		c.invalid(requestAt, "%s '%s' is greater than %s '%s'", requestAt, r.Requests.Cpu(), limitAt, r.Limits.Cpu())
	}
	p := spec.Domain.CPU
	if p == nil {
		return
	}
	if p.MaxSockets > 0 && p.Sockets > p.MaxSockets {
		c.invalid(below(domain, "cpu.sockets"), "Number of sockets in CPU topology is greater than the maximum sockets allowed")
	}
	total := uint64(p.Sockets) * uint64(p.Cores)
	if total > maxVCPUs || total*uint64(p.Threads) > maxVCPUs {
		c.invalid(below(domain, "cpu"), "sockets, cores and threads make more than %d vCPUs, which no machine type supports", maxVCPUs)
	}
	if spec.Architecture == "arm64" && p.Model != "" && p.Model != v1.CPUModeHostPassthrough {
		c.invalid(below(domain, "cpu.model"), "currently, %s is the only model supported on Arm64", v1.CPUModeHostPassthrough)
	}
}

// dedicatedCPU wants numbers that can be pinned.
func dedicatedCPU(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	p := spec.Domain.CPU
	if p == nil {
		return
	}
	domain := at.Child("domain")
	if !p.DedicatedCPUPlacement {
		needs := func(on bool, child string) {
			if on {
				c.invalid(below(domain, "cpu."+child), "%s should be only set in combination with %s",
					below(domain, "cpu."+child), below(domain, "cpu.dedicatedCpuPlacement"))
			}
		}
		needs(p.IsolateEmulatorThread, "isolateEmulatorThread")
		needs(p.NUMA != nil && p.NUMA.GuestMappingPassthrough != nil, "numa.guestMappingPassthrough")
		needs(p.Realtime != nil, "realtime")
		return
	}
	dedicatedResources(c, domain, spec)
	if p.Threads > 2 {
		c.invalid(below(domain, "cpu.threads"), "Not more than two threads must be provided at %s (got %d) when DedicatedCPUPlacement is true",
			below(domain, "cpu.threads"), p.Threads)
	}
	if p.Realtime != nil && (p.NUMA == nil || p.NUMA.GuestMappingPassthrough == nil) {
		c.required(below(domain, "cpu.numa.guestMappingPassthrough"), "%s must be defined when using %s",
			below(domain, "cpu.numa.guestMappingPassthrough"), below(domain, "cpu.realtime"))
	}
}

func dedicatedResources(c *Check, domain *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	r := spec.Domain.Resources
	for _, side := range []struct {
		name string
		q    *resource.Quantity
	}{{"requests", r.Requests.Cpu()}, {"limits", r.Limits.Cpu()}} {
		at := below(domain, "resources."+side.name+".cpu")
		if side.q.Value()*1000 != side.q.MilliValue() {
			c.invalid(at, "provided resources CPU %s must be an integer", side.name)
		}
	}
	if request, limit := r.Requests.Cpu(), r.Limits.Cpu(); !request.IsZero() && !limit.IsZero() && request.Cmp(*limit) != 0 {
		c.invalid(below(domain, "resources.limits.cpu"), "requests and limits must be equal when CPU placement is dedicated")
	}
	request, limit := r.Requests.Memory(), r.Limits.Memory()
	if !request.IsZero() && !limit.IsZero() && request.Cmp(*limit) != 0 {
		c.invalid(below(domain, limitsMemory), "requests and limits must be equal when CPU placement is dedicated")
	}
	vcpus := int64(spec.Domain.CPU.Sockets) * int64(spec.Domain.CPU.Cores) * int64(spec.Domain.CPU.Threads)
	if limit, set := r.Limits[corev1.ResourceCPU]; set && !limit.IsZero() && vcpus > 1 && limit.Value() != vcpus {
		c.invalid(below(domain, "cpu.dedicatedCpuPlacement"), "%s or %s must equal the number of vCPUs (%d), or be left out, when DedicatedCPUPlacement is true",
			below(domain, "resources.requests.cpu"), below(domain, "resources.limits.cpu"), vcpus)
	}
}

func numa(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	p := spec.Domain.CPU
	if p == nil || p.NUMA == nil || p.NUMA.GuestMappingPassthrough == nil {
		return
	}
	if spec.Domain.Memory == nil || spec.Domain.Memory.Hugepages == nil {
		c.required(below(at, "domain.memory.hugepages"), "%s must be requested when NUMA topology strategy is set in %s",
			below(at, "domain.memory.hugepages"), below(at, "domain.cpu.numa.guestMappingPassthrough"))
	}
}

func cpuFeatures(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	p := spec.Domain.CPU
	if p == nil {
		return
	}
	features := below(at, "domain.cpu.features")
	var seen []string
	for i, f := range p.Features {
		if f.Name == "" {
			c.required(features.Index(i).Child("name"), "a CPU feature needs a name")
		}
		if slices.Contains(seen, f.Name) {
			c.duplicate(features.Index(i).Child("name"), "the CPU feature %q is given twice", f.Name)
		}
		seen = append(seen, f.Name)
		enum(c, features.Index(i).Child("policy"), f.Policy, "force", "require", "optional", "disable", "forbid")
	}
}

func ioThreads(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	d := spec.Domain
	if d.IOThreadsPolicy != nil {
		enum(c, below(at, "domain.ioThreadsPolicy"), *d.IOThreadsPolicy,
			v1.IOThreadsPolicyShared, v1.IOThreadsPolicyAuto, v1.IOThreadsPolicySupplementalPool)
	}
	pool := d.IOThreadsPolicy != nil && *d.IOThreadsPolicy == v1.IOThreadsPolicySupplementalPool
	if pool && (d.IOThreads == nil || d.IOThreads.SupplementalPoolThreadCount == nil || *d.IOThreads.SupplementalPoolThreadCount < 1) {
		c.invalid(below(at, "domain.ioThreads.supplementalPoolThreadCount"), "the number of iothreads needs to be set and positive for the"+
			" supplementalPool policy")
	}
}
