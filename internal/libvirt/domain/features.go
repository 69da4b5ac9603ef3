package domain

import (
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"
	"libvirt.org/go/libvirtxml"
)

// enabled reads a switch whose absence means off and whose empty value means on.
func enabled(state *v1.FeatureState) bool { return state != nil && !isFalse(state.Enabled) }

func featureState(state *v1.FeatureState) *libvirtxml.DomainFeatureState {
	if state == nil {
		return nil
	}
	return &libvirtxml.DomainFeatureState{State: onOff(!isFalse(state.Enabled))}
}

func (b *builder) features() error {
	list := &libvirtxml.DomainFeatureList{}
	spec := b.spec.Features
	if spec == nil {
		spec = &v1.Features{}
	}
	if b.arch.acpi && !isFalse(spec.ACPI.Enabled) {
		list.ACPI = &libvirtxml.DomainFeature{}
	}
	b.dom.Features = list
	if !b.arch.x86 {
		return b.refuseX86Features(spec)
	}
	// The VMware back door is of no use here and is one thing less to attack.
	list.VMPort = &libvirtxml.DomainFeatureState{State: "off"}
	if spec.APIC != nil && !isFalse(spec.APIC.Enabled) {
		list.APIC = &libvirtxml.DomainFeatureAPIC{}
		if spec.APIC.EndOfInterrupt {
			list.APIC.EOI = "on"
		}
	}
	if spec.SMM != nil {
		list.SMM = &libvirtxml.DomainFeatureSMM{State: onOff(enabled(spec.SMM))}
	}
	if spec.KVM != nil {
		list.KVM = &libvirtxml.DomainFeatureKVM{Hidden: &libvirtxml.DomainFeatureState{State: onOff(spec.KVM.Hidden)}}
	}
	list.PVSpinlock = featureState(spec.Pvspinlock)
	if b.maxVCPUs > eimVCPUs {
		list.IOAPIC = &libvirtxml.DomainFeatureIOAPIC{Driver: "qemu"}
		b.dom.Devices.IOMMUs = []libvirtxml.DomainIOMMU{{
			Model: "intel", Driver: &libvirtxml.DomainIOMMUDriver{IntRemap: "on", EIM: "on"},
		}}
	}
	return b.hyperv(spec)
}

func (b *builder) refuseX86Features(spec *v1.Features) error {
	at := domainPath().Child("features")
	present := []struct {
		name string
		on   bool
	}{
		{"apic", spec.APIC != nil && enabled(&spec.APIC.FeatureState)},
		{"hyperv", spec.Hyperv != nil},
		{"smm", enabled(spec.SMM)},
		{"hypervPassthrough", spec.HypervPassthrough != nil && !isFalse(spec.HypervPassthrough.Enabled)},
		{"pvspinlock", enabled(spec.Pvspinlock)},
		{"kvm", spec.KVM != nil && spec.KVM.Hidden},
	}
	for _, feature := range present {
		if feature.on {
			return invalid(at.Child(feature.name), "%s guests have no such feature", b.arch.name)
		}
	}
	return nil
}

func (b *builder) hyperv(spec *v1.Features) error {
	at := domainPath().Child("features")
	if spec.HypervPassthrough != nil && !isFalse(spec.HypervPassthrough.Enabled) {
		if spec.Hyperv != nil {
			return invalid(at.Child("hypervPassthrough"), "hyperv and hypervPassthrough exclude each other")
		}
		if !b.in.Host.KVM {
			return invalid(at.Child("hypervPassthrough"), "needs hardware virtualization; name the features under hyperv instead")
		}
		b.dom.Features.HyperV = &libvirtxml.DomainFeatureHyperV{Mode: "passthrough"}
		return nil
	}
	if spec.Hyperv == nil {
		return nil
	}
	return b.hypervFeatures(spec.Hyperv, at.Child("hyperv"))
}

func (b *builder) hypervFeatures(spec *v1.FeatureHyperv, at *field.Path) error {
	hyperv := &libvirtxml.DomainFeatureHyperV{
		Relaxed: featureState(spec.Relaxed), VAPIC: featureState(spec.VAPIC), VPIndex: featureState(spec.VPIndex),
		Runtime: featureState(spec.Runtime), Synic: featureState(spec.SyNIC), Reset: featureState(spec.Reset),
		Frequencies: featureState(spec.Frequencies), ReEnlightenment: featureState(spec.Reenlightenment),
		IPI: featureState(spec.IPI), EVMCS: featureState(spec.EVMCS),
	}
	if s := spec.Spinlocks; s != nil {
		hyperv.Spinlocks = &libvirtxml.DomainFeatureHyperVSpinlocks{DomainFeatureState: *featureState(&s.FeatureState)}
		if !isFalse(s.Enabled) {
			hyperv.Spinlocks.Retries = 4096
			if s.Retries != nil {
				hyperv.Spinlocks.Retries = uint(*s.Retries)
			}
			if hyperv.Spinlocks.Retries < 4096 {
				return invalid(at.Child("spinlocks", "spinlocks"), "must be at least 4096")
			}
		}
	}
	if s := spec.SyNICTimer; s != nil {
		hyperv.STimer = &libvirtxml.DomainFeatureHyperVSTimer{
			DomainFeatureState: *featureState(&s.FeatureState), Direct: featureState(s.Direct),
		}
	}
	if s := spec.VendorID; s != nil {
		if len(s.VendorID) > 12 {
			return invalid(at.Child("vendorid", "vendorid"), "must not be longer than 12 characters")
		}
		hyperv.VendorId = &libvirtxml.DomainFeatureHyperVVendorId{DomainFeatureState: *featureState(&s.FeatureState)}
		if !isFalse(s.Enabled) {
			hyperv.VendorId.Value = s.VendorID
		}
	}
	if s := spec.TLBFlush; s != nil {
		hyperv.TLBFlush = &libvirtxml.DomainFeatureHyperVTLBFlush{
			DomainFeatureState: *featureState(&s.FeatureState), Direct: featureState(s.Direct), Extended: featureState(s.Extended),
		}
	}
	b.dom.Features.HyperV = hyperv
	return nil
}

// needsTSC tells whether the guest's clock source depends on a known, constant TSC frequency.
func (b *builder) needsTSC() bool {
	if b.spec.Features != nil && b.spec.Features.Hyperv != nil && enabled(b.spec.Features.Hyperv.Reenlightenment) {
		return true
	}
	return b.spec.CPU != nil && slices.ContainsFunc(b.spec.CPU.Features, func(f v1.CPUFeature) bool {
		return f.Name == "invtsc" && f.Policy != "disable" && f.Policy != "forbid"
	})
}
