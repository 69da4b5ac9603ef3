package launcherpod

import (
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/clusterconfig"
)

// Devices that virt-handler's device plugins offer.
const (
	DeviceKVM      corev1.ResourceName = "devices.kubevirt.io/kvm"
	DeviceTUN      corev1.ResourceName = "devices.kubevirt.io/tun"
	DeviceVhostNet corev1.ResourceName = "devices.kubevirt.io/vhost-net"
	// DeviceUserfaultfd is what the target of a post-copy migration needs.
	DeviceUserfaultfd corev1.ResourceName = "devices.kubevirt.io/userfaultfd"

	deviceVSOCK corev1.ResourceName = "devices.kubevirt.io/vhost-vsock"
	deviceSEV   corev1.ResourceName = "devices.kubevirt.io/sev"
	deviceTDX   corev1.ResourceName = "devices.kubevirt.io/tdx"
)

// scratchSpace is requested for the launcher's logs and the firmware's variables.
var scratchSpace = resource.MustParse("50M")

// Requirements computes what the compute container asks for.
func Requirements(in Input) (corev1.ResourceRequirements, error) {
	vmi := in.VMI
	own := vmi.Spec.Domain.Resources
	r := corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}
	maps.Copy(r.Requests, own.Requests)
	maps.Copy(r.Limits, own.Limits)
	if err := memory(in, &r); err != nil {
		return r, err
	}
	cpu(in, &r)
	scratch := scratchSpace.DeepCopy()
	scratch.Add(r.Requests[corev1.ResourceEphemeralStorage])
	r.Requests[corev1.ResourceEphemeralStorage] = scratch
	if limit, ok := r.Limits[corev1.ResourceEphemeralStorage]; ok {
		limit = limit.DeepCopy()
		limit.Add(scratchSpace)
		r.Limits[corev1.ResourceEphemeralStorage] = limit
	}
	for name, count := range devices(vmi, in.Config) {
		r.Limits[name] = *resource.NewQuantity(count, resource.DecimalSI)
	}
	for _, claim := range resourceClaims(vmi) {
		r.Claims = append(r.Claims, corev1.ResourceClaim{Name: claim.Name})
	}
	return r, nil
}

func memory(in Input, r *corev1.ResourceRequirements) error {
	vmi := in.VMI
	overhead := Overhead(vmi, in.Config)
	guest := guestMemory(vmi)
	if guest.Sign() <= 0 {
		return fmt.Errorf("the guest has no memory; set spec.domain.memory.guest")
	}
	if size := hugepageSize(vmi); size != "" {
		name := corev1.ResourceName(corev1.ResourceHugePagesPrefix + size)
		r.Requests[name], r.Limits[name] = guest, guest
		r.Requests[corev1.ResourceMemory] = overhead
		if _, ok := r.Limits[corev1.ResourceMemory]; ok {
			r.Limits[corev1.ResourceMemory] = overhead
		}
		return nil
	}
	request := requestedMemory(vmi, in.Config).DeepCopy()
	if limit, ok := r.Limits[corev1.ResourceMemory]; ok {
		limit = limit.DeepCopy()
		limit.Add(overhead)
		r.Limits[corev1.ResourceMemory] = limit
	}
	if !vmi.Spec.Domain.Resources.OvercommitGuestOverhead {
		request.Add(overhead)
	}
	r.Requests[corev1.ResourceMemory] = request
	if _, ok := r.Limits[corev1.ResourceMemory]; !ok && in.AutoLimits.MemoryRatio > 0 {
		limit := int64(float64(request.Value()) * in.AutoLimits.MemoryRatio)
		r.Limits[corev1.ResourceMemory] = *resource.NewQuantity(limit, resource.BinarySI)
	}
	return nil
}

func cpu(in Input, r *corev1.ResourceRequirements) {
	vmi, n := in.VMI, vcpus(in.VMI)
	if vmi.IsCPUDedicated() {
		if vmi.Spec.Domain.CPU.IsolateEmulatorThread {
			n++
		}
		whole := *resource.NewQuantity(n, resource.DecimalSI)
		r.Requests[corev1.ResourceCPU], r.Limits[corev1.ResourceCPU] = whole, whole
		// A static CPU manager gives exclusive processors only to pods whose memory is guaranteed as well.
		r.Limits[corev1.ResourceMemory] = r.Requests[corev1.ResourceMemory]
		return
	}
	if _, ok := r.Requests[corev1.ResourceCPU]; !ok {
		switch limit, limited := r.Limits[corev1.ResourceCPU]; {
		case limited:
			r.Requests[corev1.ResourceCPU] = limit
		case in.Config.Compute.CPURequest != nil:
			r.Requests[corev1.ResourceCPU] = *in.Config.Compute.CPURequest
		default:
			milli := max(n*1000/int64(in.Config.Compute.CPUAllocationRatio), 1)
			r.Requests[corev1.ResourceCPU] = *resource.NewMilliQuantity(milli, resource.DecimalSI)
		}
	}
	if _, ok := r.Limits[corev1.ResourceCPU]; !ok && in.AutoLimits.CPU {
		r.Limits[corev1.ResourceCPU] = *resource.NewQuantity(n, resource.DecimalSI)
	}
}

// devices counts the node's devices that the VM needs.
func devices(vmi *v1.VirtualMachineInstance, c clusterconfig.Config) map[corev1.ResourceName]int64 {
	d := map[corev1.ResourceName]int64{}
	emulated := c.Emulates(vmi.Annotations)
	if !emulated {
		d[DeviceKVM] = 1
	}
	if hasNetwork(vmi) {
		d[DeviceTUN] = 1
		if !emulated && hasVirtioInterface(vmi) {
			d[DeviceVhostNet] = 1
		}
	}
	if c.Migration.AllowPostCopy {
		d[DeviceUserfaultfd] = 1
	}
	if isSet(vmi.Spec.Domain.Devices.AutoattachVSOCK) {
		d[deviceVSOCK] = 1
	}
	if s := vmi.Spec.Domain.LaunchSecurity; s != nil {
		switch {
		case s.SEV != nil, s.SNP != nil:
			d[deviceSEV] = 1
		case s.TDX != nil:
			d[deviceTDX] = 1
		}
	}
	for _, gpu := range vmi.Spec.Domain.Devices.GPUs {
		if gpu.DeviceName != "" {
			d[corev1.ResourceName(gpu.DeviceName)]++
		}
	}
	for _, host := range vmi.Spec.Domain.Devices.HostDevices {
		if host.DeviceName != "" {
			d[corev1.ResourceName(host.DeviceName)]++
		}
	}
	return d
}

func isSet(b *bool) bool { return b != nil && *b }
