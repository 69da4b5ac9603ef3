// Package defaults completes VMs and VMIs: what a user leaves out gets the value that the public contract gives it.
package defaults

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/autoattach"
	"virtctl/internal/clusterconfig"
)

// Spec completes the spec of a VMI. It is also applied to a copy of a VM's template before that is validated, so that VM and
// VMI are judged alike.
func Spec(spec *v1.VirtualMachineInstanceSpec, cluster clusterconfig.Config) error {
	architecture(spec, cluster)
	machineType(spec, cluster)
	requests(spec, cluster)
	guestMemory(spec)
	topology(spec)
	pullPolicies(spec)
	eviction(spec, cluster)
	if err := autoattach.PodNetwork(spec, cluster); err != nil {
		return err
	}
	autoattach.VolumeDisks(spec)
	autoattach.InputDevice(spec)
	devices(spec)
	hyperv(spec)
	cpuModel(spec, cluster)
	return nil
}

func architecture(spec *v1.VirtualMachineInstanceSpec, cluster clusterconfig.Config) {
	if spec.Architecture == "" {
		spec.Architecture = cluster.DefaultArchitecture
	}
}

func machineType(spec *v1.VirtualMachineInstanceSpec, cluster clusterconfig.Config) {
	if spec.Domain.Machine == nil {
		spec.Domain.Machine = &v1.Machine{}
	}
	if spec.Domain.Machine.Type == "" {
		spec.Domain.Machine.Type = cluster.Machines.For(spec.Architecture).Type
	}
}

// requests takes over limits as requests, as Kubernetes does for pods.
func requests(spec *v1.VirtualMachineInstanceSpec, cluster clusterconfig.Config) {
	r := &spec.Domain.Resources
	fill := func(name corev1.ResourceName, value resource.Quantity) {
		if r.Requests == nil {
			r.Requests = corev1.ResourceList{}
		}
		r.Requests[name] = value
	}
	if !r.Limits.Cpu().IsZero() && r.Requests.Cpu().IsZero() {
		fill(corev1.ResourceCPU, r.Limits[corev1.ResourceCPU])
	}
	if !r.Limits.Memory().IsZero() && r.Requests.Memory().IsZero() {
		fill(corev1.ResourceMemory, r.Limits[corev1.ResourceMemory])
	}
	dedicated := spec.Domain.CPU != nil && spec.Domain.CPU.DedicatedCPUPlacement
	if _, set := r.Requests[corev1.ResourceCPU]; !set && !dedicated && cluster.Compute.CPURequest != nil {
		fill(corev1.ResourceCPU, *cluster.Compute.CPURequest)
	}
}

func guestMemory(spec *v1.VirtualMachineInstanceSpec) {
	if spec.Domain.Memory != nil && spec.Domain.Memory.Guest != nil {
		return
	}
	memory := spec.Domain.Memory
	if memory == nil {
		memory = &v1.Memory{}
	}
	r := spec.Domain.Resources
	switch {
	case !r.Requests.Memory().IsZero():
		q := r.Requests[corev1.ResourceMemory]
		memory.Guest = &q
	case !r.Limits.Memory().IsZero():
		q := r.Limits[corev1.ResourceMemory]
		memory.Guest = &q
	case memory.Hugepages != nil:
		q, err := resource.ParseQuantity(memory.Hugepages.PageSize)
		if err != nil {
			// Validation names the field.
			return
		}
		memory.Guest = &q
	default:
		return
	}
	spec.Domain.Memory = memory
}

// topology gives guests that name no CPUs as many sockets as they have CPU to use: sockets are what can be plugged in later.
func topology(spec *v1.VirtualMachineInstanceSpec) {
	if spec.Domain.CPU == nil {
		spec.Domain.CPU = &v1.CPU{}
	}
	cpu := spec.Domain.CPU
	if cpu.Sockets == 0 && cpu.Cores == 0 && cpu.Threads == 0 {
		r := spec.Domain.Resources
		if limit, ok := r.Limits[corev1.ResourceCPU]; ok {
			cpu.Sockets = wholeCPUs(limit)
		} else if request, ok := r.Requests[corev1.ResourceCPU]; ok {
			cpu.Sockets = wholeCPUs(request)
		}
	}
	for _, n := range []*uint32{&cpu.Sockets, &cpu.Cores, &cpu.Threads} {
		if *n == 0 {
			*n = 1
		}
	}
}

// maxCPUs is the most that a machine can have. Who requests more of a node, and does not say what the guest shall see of it, is not
// refused: the pod waits for such a node.
const maxCPUs = 4096

func wholeCPUs(q resource.Quantity) uint32 {
	n := q.Value()
	switch {
	case n < 0:
		return 0
	case n > maxCPUs:
		return maxCPUs
	default:
		return uint32(n)
	}
}

func pullPolicies(spec *v1.VirtualMachineInstanceSpec) {
	for i := range spec.Volumes {
		if d := spec.Volumes[i].ContainerDisk; d != nil && d.ImagePullPolicy == "" {
			d.ImagePullPolicy = pullPolicy(d.Image)
		}
	}
	if f := spec.Domain.Firmware; f != nil && f.KernelBoot != nil && f.KernelBoot.Container != nil {
		if c := f.KernelBoot.Container; c.ImagePullPolicy == "" {
			c.ImagePullPolicy = pullPolicy(c.Image)
		}
	}
}

func pullPolicy(image string) corev1.PullPolicy {
	if strings.Contains(image, "@") {
		return corev1.PullIfNotPresent
	}
	// A colon before the last slash belongs to the registry's port.
	_, tag, tagged := strings.Cut(image[strings.LastIndex(image, "/")+1:], ":")
	if !tagged || tag == "latest" {
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}

func eviction(spec *v1.VirtualMachineInstanceSpec, cluster clusterconfig.Config) {
	if spec.EvictionStrategy == nil {
		strategy := cluster.EvictionStrategy
		spec.EvictionStrategy = &strategy
	}
}
