package defaults

import (
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/clusterconfig"
)

// devices lets the published types set what they know (CD-ROMs are read-only, features are enabled, probes have periods),
// and then what depends on the architecture.
func devices(spec *v1.VirtualMachineInstanceSpec) {
	shell := &v1.VirtualMachineInstance{Spec: *spec}
	v1.SetObjectDefaults_VirtualMachineInstance(shell)
	*spec = shell.Spec
	bus := diskBus(spec.Architecture)
	for i := range spec.Domain.Devices.Disks {
		d := &spec.Domain.Devices.Disks[i].DiskDevice
		switch {
		case d.Disk != nil && d.Disk.Bus == "":
			d.Disk.Bus = bus
		case d.CDRom != nil && d.CDRom.Bus == "":
			d.CDRom.Bus = removableBus(spec.Architecture)
		case d.LUN != nil && d.LUN.Bus == "":
			d.LUN.Bus = bus
		}
	}
	if w := spec.Domain.Devices.Watchdog; w != nil {
		watchdog(w, spec.Architecture)
	}
	if spec.Architecture == "arm64" {
		arm64Firmware(spec)
	}
}

// diskBus is one that guests understand without an extra driver.
func diskBus(arch string) v1.DiskBus {
	if arch == "amd64" {
		return v1.DiskBusSATA
	}
	return v1.DiskBusVirtio
}

// removableBus takes CD-ROMs; virtio does not.
func removableBus(arch string) v1.DiskBus {
	if arch == "amd64" {
		return v1.DiskBusSATA
	}
	return v1.DiskBusSCSI
}

func watchdog(w *v1.Watchdog, arch string) {
	if w.I6300ESB == nil && w.Diag288 == nil {
		if arch == "s390x" {
			w.Diag288 = &v1.Diag288Watchdog{}
		} else {
			w.I6300ESB = &v1.I6300ESBWatchdog{}
		}
	}
	if w.I6300ESB != nil && w.I6300ESB.Action == "" {
		w.I6300ESB.Action = v1.WatchdogActionReset
	}
	if w.Diag288 != nil && w.Diag288.Action == "" {
		w.Diag288.Action = v1.WatchdogActionReset
	}
}

// arm64Firmware sets the only firmware there is on arm64: EFI, which cannot boot securely there.
func arm64Firmware(spec *v1.VirtualMachineInstanceSpec) {
	f := spec.Domain.Firmware
	if f.Bootloader == nil {
		f.Bootloader = &v1.Bootloader{}
	}
	if f.Bootloader.EFI == nil && f.Bootloader.BIOS == nil {
		f.Bootloader.EFI = &v1.EFI{}
	}
	if f.Bootloader.EFI != nil && f.Bootloader.EFI.SecureBoot == nil {
		f.Bootloader.EFI.SecureBoot = ptr(false)
	}
}

// hyperv switches on what the wanted Hyper-V features stand on. A feature that was switched off by the user is left to
// validation.
func hyperv(spec *v1.VirtualMachineInstanceSpec) {
	if spec.Domain.Features == nil || spec.Domain.Features.Hyperv == nil {
		return
	}
	h := spec.Domain.Features.Hyperv
	need := func(wanted bool, on **v1.FeatureState) {
		if wanted && *on == nil {
			*on = &v1.FeatureState{Enabled: ptr(true)}
		}
	}
	need(h.SyNICTimer != nil && enabled(&h.SyNICTimer.FeatureState), &h.SyNIC)
	need(enabled(h.SyNIC), &h.VPIndex)
	need(enabled(h.IPI), &h.VPIndex)
	need(h.TLBFlush != nil && enabled(&h.TLBFlush.FeatureState), &h.VPIndex)
	need(enabled(h.EVMCS), &h.VAPIC)
	need(enabled(h.Reenlightenment), &h.Frequencies)
	if !enabled(h.EVMCS) {
		return
	}
	// Enlightened VMCS is nested virtualization.
	cpu := spec.Domain.CPU
	for _, f := range cpu.Features {
		if f.Name == "vmx" {
			return
		}
	}
	cpu.Features = append(cpu.Features, v1.CPUFeature{Name: "vmx", Policy: "require"})
}

func enabled(f *v1.FeatureState) bool {
	return f != nil && (f.Enabled == nil || *f.Enabled)
}

func cpuModel(spec *v1.VirtualMachineInstanceSpec, cluster clusterconfig.Config) {
	cpu := spec.Domain.CPU
	switch {
	case cpu.Model != "":
	case cluster.Compute.CPUModel != "":
		cpu.Model = cluster.Compute.CPUModel
	case spec.Architecture == "arm64":
		cpu.Model = v1.CPUModeHostPassthrough
	default:
		cpu.Model = v1.DefaultCPUModel
	}
	for i := range cpu.Features {
		if cpu.Features[i].Policy == "" {
			cpu.Features[i].Policy = "require"
		}
	}
}

func ptr[T any](v T) *T { return &v }
