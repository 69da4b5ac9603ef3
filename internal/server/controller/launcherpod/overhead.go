package launcherpod

import (
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/clusterconfig"
)

const mebibyte = 1 << 20

// What a VM takes beside its guest's memory. All in MiB, measured with QEMU 10 and libvirt 11 on amd64 and rounded up;
// docs of the parts are beside them. This is the one place where the figures stand.
const (
	// overheadLauncher is virt-launcher (18) and virtqemud (about 30) with room for a second client.
	overheadLauncher = 64
	// overheadQEMU is QEMU's own heap and libraries without guest memory and vCPUs.
	overheadQEMU = 50
	// overheadVCPU is one vCPU thread's stack, TLB and dirty-page state.
	overheadVCPU = 8
	// overheadIO is the IO thread and the virtio queues.
	overheadIO = 8
	// overheadGraphics is the video memory (16) and VNC's copy of the screen.
	overheadGraphics = 32
	// overheadEmulation is the code cache of software emulation; the kernel of a small Linux guest translates to about 60.
	overheadEmulation = 96
	// overheadARM is the firmware volumes that arm64's machine type maps.
	overheadARM = 128
	// overheadVFIO is what pinning for a passed-through device needs beyond guest memory.
	overheadVFIO = 1024
	// overheadTPM is swtpm.
	overheadTPM = 53
	// overheadSEV is the encrypted guest's bounce buffers.
	overheadSEV = 256
	// overheadProbe is a command that kubelet runs in the pod for a guest agent probe, and both may run at once.
	overheadProbe = 16
	// overheadGuaranteed keeps page cache of disk images from pushing a pod with a hard limit into OOM.
	overheadGuaranteed = 100
	// overheadMetrics is the downward metrics device.
	overheadMetrics = 1
	// pageTableRatio: 8 bytes of page table map 4096 bytes of guest memory.
	pageTableRatio = 512
)

// Overhead is the memory a VM needs beside its guest's memory.
func Overhead(vmi *v1.VirtualMachineInstance, c clusterconfig.Config) resource.Quantity {
	memory := requestedMemory(vmi, c)
	mib := int64(overheadLauncher + overheadQEMU + overheadIO)
	mib += overheadVCPU * vcpus(vmi)
	mib += deviceOverhead(vmi, c)
	mib += probeOverhead(vmi.Spec.LivenessProbe) + probeOverhead(vmi.Spec.ReadinessProbe)
	if vmi.IsCPUDedicated() || vmi.WantsToHaveQOSGuaranteed() {
		mib += overheadGuaranteed
	}
	total := memory.Value()/pageTableRatio + mib*mebibyte
	if m := vmi.Spec.Domain.Memory; m != nil && m.ReservedOverhead != nil && m.ReservedOverhead.AddedOverhead != nil {
		total += m.ReservedOverhead.AddedOverhead.Value()
	}
	total = int64(float64(total) * c.Compute.OverheadRatio)
	// Whole MiB keep the object readable.
	return *resource.NewQuantity((total+mebibyte-1)/mebibyte*mebibyte, resource.BinarySI)
}

func deviceOverhead(vmi *v1.VirtualMachineInstance, c clusterconfig.Config) int64 {
	d := &vmi.Spec.Domain.Devices
	mib := int64(0)
	if isOn(d.AutoattachGraphicsDevice) {
		mib += overheadGraphics
	}
	if c.Emulates(vmi.Annotations) {
		mib += overheadEmulation
	}
	if vmi.Spec.Architecture == "arm64" {
		mib += overheadARM
	}
	if hasVFIO(vmi) {
		mib += overheadVFIO
	}
	if d.TPM != nil && isOn(d.TPM.Enabled) {
		mib += overheadTPM
	}
	if d.DownwardMetrics != nil || hasDownwardMetricsVolume(vmi) {
		mib += overheadMetrics
	}
	if s := vmi.Spec.Domain.LaunchSecurity; s != nil && (s.SEV != nil || s.SNP != nil) {
		mib += overheadSEV
	}
	return mib
}

// isOn reads an optional switch whose default is on.
func isOn(b *bool) bool { return b == nil || *b }

func hasVFIO(vmi *v1.VirtualMachineInstance) bool {
	d := &vmi.Spec.Domain.Devices
	if len(d.GPUs) > 0 || len(d.HostDevices) > 0 {
		return true
	}
	for i := range d.Interfaces {
		if d.Interfaces[i].SRIOV != nil {
			return true
		}
	}
	return false
}

func hasDownwardMetricsVolume(vmi *v1.VirtualMachineInstance) bool {
	for i := range vmi.Spec.Volumes {
		if vmi.Spec.Volumes[i].DownwardMetrics != nil {
			return true
		}
	}
	return false
}

func probeOverhead(p *v1.Probe) int64 {
	if p != nil && (p.Exec != nil || p.GuestAgentPing != nil) {
		return overheadProbe
	}
	return 0
}

// vcpus is the number of processors the guest starts with.
func vcpus(vmi *v1.VirtualMachineInstance) int64 {
	if cpu := vmi.Spec.Domain.CPU; cpu != nil && (cpu.Sockets > 0 || cpu.Cores > 0 || cpu.Threads > 0) {
		return int64(atLeastOne(cpu.Sockets)) * int64(atLeastOne(cpu.Cores)) * int64(atLeastOne(cpu.Threads))
	}
	// Without a topology the guest has as many as the CPUs it asks for.
	if limit := vmi.Spec.Domain.Resources.Limits.Cpu(); !limit.IsZero() {
		return limit.Value()
	}
	if request := vmi.Spec.Domain.Resources.Requests.Cpu(); !request.IsZero() {
		return request.Value()
	}
	return 1
}

func atLeastOne(n uint32) uint32 { return max(n, 1) }

// guestMemory is what the guest sees.
func guestMemory(vmi *v1.VirtualMachineInstance) resource.Quantity {
	if m := vmi.Spec.Domain.Memory; m != nil && m.Guest != nil {
		return *m.Guest
	}
	if request, ok := vmi.Spec.Domain.Resources.Requests["memory"]; ok {
		return request
	}
	return vmi.Spec.Domain.Resources.Limits["memory"]
}

// requestedMemory is what the guest's memory weighs for the scheduler.
func requestedMemory(vmi *v1.VirtualMachineInstance, c clusterconfig.Config) resource.Quantity {
	if request, ok := vmi.Spec.Domain.Resources.Requests["memory"]; ok && !request.IsZero() {
		return request
	}
	guest := guestMemory(vmi)
	if percent := int64(c.Compute.MemoryOvercommit); percent != 100 {
		return *resource.NewQuantity(guest.Value()*100/percent, resource.BinarySI)
	}
	return guest
}

func hugepageSize(vmi *v1.VirtualMachineInstance) string {
	if m := vmi.Spec.Domain.Memory; m != nil && m.Hugepages != nil {
		return strings.TrimSpace(m.Hugepages.PageSize)
	}
	return ""
}
