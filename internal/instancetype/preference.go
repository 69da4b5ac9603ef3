package instancetype

import (
	v1 "kubevirt.io/api/core/v1"
	"kubevirt.io/api/instancetype/v1beta1"
)

func prefer(p *v1beta1.VirtualMachinePreferenceSpec, spec *v1.VirtualMachineInstanceSpec) {
	d := &spec.Domain
	preferClock(p.Clock, d)
	preferFeatures(p.Features, d)
	preferFirmware(p.Firmware, d)
	if p.CPU != nil {
		preferCPUFeatures(p.CPU.PreferredCPUFeatures, d)
	}
	if p.Machine != nil && p.Machine.PreferredMachineType != "" {
		if d.Machine == nil {
			d.Machine = &v1.Machine{}
		}
		fillValue(&d.Machine.Type, p.Machine.PreferredMachineType)
	}
	if p.PreferredSubdomain != nil {
		fillValue(&spec.Subdomain, *p.PreferredSubdomain)
	}
	fill(&spec.TerminationGracePeriodSeconds, p.PreferredTerminationGracePeriodSeconds)
	if p.PreferredArchitecture != nil {
		fillValue(&spec.Architecture, *p.PreferredArchitecture)
	}
	fill(&d.LaunchSecurity, p.PreferredLaunchSecurity)
	if p.Devices != nil {
		preferDisks(p.Devices, &d.Devices)
		preferDevices(p.Devices, &d.Devices)
	}
}

func preferClock(p *v1beta1.ClockPreferences, d *v1.DomainSpec) {
	if p == nil || (p.PreferredClockOffset == nil && p.PreferredTimer == nil) {
		return
	}
	if d.Clock == nil {
		d.Clock = &v1.Clock{}
	}
	if d.Clock.UTC == nil && d.Clock.Timezone == nil && p.PreferredClockOffset != nil {
		d.Clock.ClockOffset = *p.PreferredClockOffset.DeepCopy()
	}
	if d.Clock.Timer == nil && p.PreferredTimer != nil {
		d.Clock.Timer = p.PreferredTimer.DeepCopy()
	}
}

func preferFeatures(p *v1beta1.FeaturePreferences, d *v1.DomainSpec) {
	if p == nil {
		return
	}
	if d.Features == nil {
		d.Features = &v1.Features{}
	}
	f := d.Features
	if f.ACPI.Enabled == nil && p.PreferredAcpi != nil {
		f.ACPI = *p.PreferredAcpi.DeepCopy()
	}
	if p.PreferredHyperv != nil && f.Hyperv == nil && f.HypervPassthrough == nil {
		f.Hyperv = p.PreferredHyperv.DeepCopy()
	}
	fill(&f.APIC, p.PreferredApic)
	fill(&f.KVM, p.PreferredKvm)
	fill(&f.Pvspinlock, p.PreferredPvspinlock)
	fill(&f.SMM, p.PreferredSmm)
}

func preferFirmware(p *v1beta1.FirmwarePreferences, d *v1.DomainSpec) {
	if p == nil {
		return
	}
	if d.Firmware == nil {
		d.Firmware = &v1.Firmware{}
	}
	if d.Firmware.Bootloader == nil {
		d.Firmware.Bootloader = &v1.Bootloader{}
	}
	b := d.Firmware.Bootloader
	if b.BIOS != nil || b.EFI != nil {
		return
	}
	switch {
	case p.PreferredEfi != nil:
		b.EFI = p.PreferredEfi.DeepCopy()
	case isTrue(p.DeprecatedPreferredUseEfi):
		b.EFI = &v1.EFI{SecureBoot: p.DeprecatedPreferredUseSecureBoot}
	case isTrue(p.PreferredUseBios):
		b.BIOS = &v1.BIOS{UseSerial: p.PreferredUseBiosSerial}
	}
}

func isTrue(b *bool) bool { return b != nil && *b }

func preferCPUFeatures(features []v1.CPUFeature, d *v1.DomainSpec) {
	if len(features) == 0 {
		return
	}
	if d.CPU == nil {
		d.CPU = &v1.CPU{}
	}
	own := map[string]bool{}
	for _, f := range d.CPU.Features {
		own[f.Name] = true
	}
	for _, f := range features {
		if !own[f.Name] {
			d.CPU.Features = append(d.CPU.Features, f)
		}
	}
}
