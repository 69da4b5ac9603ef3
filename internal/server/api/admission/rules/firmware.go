package rules

import (
	"strings"

	"github.com/google/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/clusterconfig"
)

func on(f *v1.FeatureState) bool { return f != nil && (f.Enabled == nil || *f.Enabled) }

func efi(spec *v1.VirtualMachineInstanceSpec) *v1.EFI {
	if f := spec.Domain.Firmware; f != nil && f.Bootloader != nil {
		return f.Bootloader.EFI
	}
	return nil
}

// secureBoot is on for EFI unless it is switched off.
func secureBoot(e *v1.EFI) bool { return e != nil && (e.SecureBoot == nil || *e.SecureBoot) }

func firmware(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	f := spec.Domain.Firmware
	if f == nil {
		return
	}
	firmware := below(at, "domain.firmware")
	if f.UUID != "" {
		if _, err := uuid.Parse(string(f.UUID)); err != nil || (len(f.UUID) != 36 && len(f.UUID) != 32) {
			c.invalid(firmware.Child("uuid"), "%s %q is not a UUID such as 5d307ca9-b3ef-428c-8861-06e72d69f223", firmware.Child("uuid"), f.UUID)
		}
	}
	// Machines' serial numbers have spaces, unlike disks'.
	serial(c, firmware.Child("serial"), strings.ReplaceAll(f.Serial, " ", "_"))
	acpiTables(c, firmware.Child("acpi"), f.ACPI, spec)
	b := f.Bootloader
	if b == nil {
		return
	}
	loader := firmware.Child("bootloader")
	if b.BIOS != nil && b.EFI != nil {
		c.invalid(loader.Child("efi"), "%s has both EFI and BIOS configured, but they are mutually exclusive.", loader)
	}
	if b.BIOS != nil && spec.Architecture == "arm64" {
		c.invalid(loader.Child("bios"), "Arm64 does not support bios boot, please change to uefi boot")
	}
	if b.EFI == nil || !secureBoot(b.EFI) {
		return
	}
	switch {
	case spec.Architecture == "arm64":
		c.invalid(loader.Child("efi", "secureboot"), "UEFI secure boot is currently not supported on aarch64 Arch")
	case spec.Domain.Features == nil || !on(spec.Domain.Features.SMM):
		c.invalid(loader.Child("efi"), "%s has EFI SecureBoot enabled. SecureBoot requires SMM, which is currently disabled: set %s",
			loader, below(at, "domain.features.smm.enabled"))
	}
}

// acpiTables are taken from Secrets that must be volumes of the VM.
func acpiTables(c *Check, at *field.Path, a *v1.ACPI, spec *v1.VirtualMachineInstanceSpec) {
	if a == nil {
		return
	}
	if a.SlicNameRef == "" && a.MsdmNameRef == "" {
		c.invalid(at, "ACPI was set but no SLIC nor MSDM volume reference was set")
	}
	for _, ref := range []struct{ child, name string }{{"slicNameRef", a.SlicNameRef}, {"msdmNameRef", a.MsdmNameRef}} {
		if ref.name == "" {
			continue
		}
		if v := volumeNamed(spec, ref.name); v == nil || v.Secret == nil {
			c.invalid(at.Child(ref.child), "%s does not have a matching Volume of type Secret", at.Child(ref.child))
		}
	}
}

func kernelBoot(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	f := spec.Domain.Firmware
	if f == nil || f.KernelBoot == nil {
		return
	}
	boot := below(at, "domain.firmware.kernelBoot")
	k := f.KernelBoot
	if k.Container == nil {
		if k.KernelArgs != "" {
			c.invalid(boot.Child("kernelArgs"), "kernel arguments cannot be provided without an external kernel: set %s",
				boot.Child("container", "kernelPath"))
		}
		return
	}
	container := boot.Child("container")
	if k.Container.Image == "" {
		c.required(container.Child("image"), "%s must be defined with an image", container)
	}
	if k.Container.KernelPath == "" && k.Container.InitrdPath == "" {
		c.required(container, "%s must be defined with at least one of the following: kernelPath, initrdPath", container)
	}
	if k.KernelArgs != "" && k.Container.KernelPath == "" {
		c.invalid(boot.Child("kernelArgs"), "kernel arguments cannot be provided without an external kernel: set %s",
			container.Child("kernelPath"))
	}
	if strings.ContainsAny(k.KernelArgs, "\n\x00") {
		c.invalid(boot.Child("kernelArgs"), "%s must be one line", boot.Child("kernelArgs"))
	}
	insideImage(c, container.Child("kernelPath"), k.Container.KernelPath)
	insideImage(c, container.Child("initrdPath"), k.Container.InitrdPath)
	enum(c, container.Child("imagePullPolicy"), k.Container.ImagePullPolicy, "Always", "IfNotPresent", "Never")
}

func launchSecurity(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	s := spec.Domain.LaunchSecurity
	if s == nil {
		return
	}
	security := below(at, "domain.launchSecurity")
	amd := s.SEV != nil || s.SNP != nil
	if count(s.SEV != nil, s.SNP != nil, s.TDX != nil) > 1 {
		c.forbidden(security, "One and only one launchSecurity type should be set.")
		return
	}
	switch {
	case amd && !c.gate(security, clusterconfig.GateWorkloadEncryptionSEV, "SEV"):
		return
	case s.TDX != nil && !c.gate(security, clusterconfig.GateWorkloadEncryptionTDX, "TDX"):
		return
	}
	e := efi(spec)
	if (amd || s.TDX != nil) && e == nil {
		c.required(below(at, "domain.firmware.bootloader"), "%s requires OVMF (UEFI)", security)
	}
	if amd && e != nil && secureBoot(e) {
		c.invalid(below(at, "domain.firmware.bootloader.efi"), "%s does not work along with SecureBoot", security)
	}
	if amd && spec.StartStrategy != nil && *spec.StartStrategy == v1.StartStrategyPaused && (s.SEV == nil || s.SEV.Attestation == nil) {
		c.invalid(security, "%s is not compatible with startStrategy Paused without attestation", security)
	}
	for i, n := range spec.Domain.Devices.Interfaces {
		if n.BootOrder != nil {
			nic := below(at, "domain.devices.interfaces").Index(i)
			c.invalid(nic, "%s does not work with bootable NICs: %s", security, nic.Child("name"))
		}
	}
}

func reboot(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	if p := spec.Domain.RebootPolicy; p != nil {
		where := below(at, "domain.rebootPolicy")
		if c.gate(where, clusterconfig.GateRebootPolicy, "a reboot policy") {
			enum(c, where, *p, v1.RebootPolicyReboot, v1.RebootPolicyTerminate)
		}
	}
}

func features(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	f := spec.Domain.Features
	if f == nil {
		return
	}
	features := below(at, "domain.features")
	if f.Hyperv != nil && f.HypervPassthrough != nil && f.HypervPassthrough.Enabled != nil && *f.HypervPassthrough.Enabled {
		c.invalid(features.Child("hyperv"), "Cannot use explicit hyperv configuration alongside hypervPassthrough")
	}
	if h := f.Hyperv; h != nil {
		hyperv := features.Child("hyperv")
		if s := h.Spinlocks; s != nil && s.Retries != nil && *s.Retries < 4096 {
			c.invalid(hyperv.Child("spinlocks"), "%s should be at least 4096", hyperv.Child("spinlocks", "spinlocks"))
		}
		if v := h.VendorID; v != nil && (len(v.VendorID) > 12 || strings.ContainsAny(v.VendorID, ",\"'<>&\n")) {
			c.invalid(hyperv.Child("vendorid"), "%s must be at most 12 characters, without quotes and commas", hyperv.Child("vendorid", "vendorid"))
		}
	}
	if spec.Architecture == "amd64" || spec.Architecture == "" {
		return
	}
	for _, x := range []struct {
		name string
		set  bool
	}{{"smm", on(f.SMM)}, {"hyperv", f.Hyperv != nil}} {
		if x.set {
			c.unsupported(features.Child(x.name), "%s is not supported on %s", features.Child(x.name), spec.Architecture)
		}
	}
}

// hypervDependencies refuses features whose ground the user took away. What was merely left out has been switched on already.
func hypervDependencies(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	f := spec.Domain.Features
	if f == nil || f.Hyperv == nil {
		return
	}
	h := f.Hyperv
	hyperv := below(at, "domain.features.hyperv")
	needs := func(wanted bool, name string, ground *v1.FeatureState, groundName string) {
		if wanted && !on(ground) {
			c.required(hyperv.Child(name), "%s requires %s to be enabled", hyperv.Child(name), hyperv.Child(groundName))
		}
	}
	needs(on(h.SyNIC), "synic", h.VPIndex, "vpindex")
	needs(h.SyNICTimer != nil && on(&h.SyNICTimer.FeatureState), "synictimer", h.SyNIC, "synic")
	needs(on(h.IPI), "ipi", h.VPIndex, "vpindex")
	needs(h.TLBFlush != nil && on(&h.TLBFlush.FeatureState), "tlbflush", h.VPIndex, "vpindex")
	needs(on(h.EVMCS), "evmcs", h.VAPIC, "vapic")
	needs(on(h.Reenlightenment), "reenlightenment", h.Frequencies, "frequencies")
}

func clock(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	k := spec.Domain.Clock
	if k == nil {
		return
	}
	clock := below(at, "domain.clock")
	if k.UTC != nil && k.Timezone != nil {
		c.invalid(clock, "%s must have only one of utc and timezone", clock)
	}
	if k.Timezone != nil && strings.ContainsAny(string(*k.Timezone), "\"'<>&\n ") {
		c.invalid(clock.Child("timezone"), "%s %q is not a time zone such as Europe/Berlin", clock.Child("timezone"), *k.Timezone)
	}
	t := k.Timer
	if t == nil {
		return
	}
	timer := clock.Child("timer")
	if t.HPET != nil {
		enum(c, timer.Child("hpet", "tickPolicy"), t.HPET.TickPolicy, v1.HPETTickPolicyDelay, v1.HPETTickPolicyCatchup,
			v1.HPETTickPolicyMerge, v1.HPETTickPolicyDiscard)
	}
	if t.PIT != nil {
		enum(c, timer.Child("pit", "tickPolicy"), t.PIT.TickPolicy, v1.PITTickPolicyDelay, v1.PITTickPolicyCatchup, v1.PITTickPolicyDiscard)
	}
	if t.RTC != nil {
		enum(c, timer.Child("rtc", "tickPolicy"), t.RTC.TickPolicy, v1.RTCTickPolicyDelay, v1.RTCTickPolicyCatchup)
		enum(c, timer.Child("rtc", "track"), t.RTC.Track, v1.TrackGuest, v1.TrackWall)
	}
}
