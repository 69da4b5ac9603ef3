package domain

import (
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"
	"libvirt.org/go/libvirtxml"
)

func (b *builder) clock() error {
	clock := &libvirtxml.DomainClock{Offset: "utc"}
	b.dom.Clock = clock
	if spec := b.spec.Clock; spec != nil {
		switch {
		case spec.UTC != nil && spec.Timezone != nil:
			return invalid(domainPath().Child("clock"), "utc and timezone exclude each other")
		case spec.UTC != nil && spec.UTC.OffsetSeconds != nil:
			clock.Offset, clock.Basis, clock.Adjustment = "variable", "utc", strconv.Itoa(*spec.UTC.OffsetSeconds)
		case spec.Timezone != nil:
			clock.Offset, clock.TimeZone = "timezone", string(*spec.Timezone)
		}
		if spec.Timer != nil {
			timers, err := b.timers(spec.Timer)
			if err != nil {
				return err
			}
			clock.Timer = timers
		}
	}
	if hints := b.vmi.Status.TopologyHints; hints != nil && hints.TSCFrequency != nil && *hints.TSCFrequency > 0 && b.needsTSC() &&
		b.in.Host.KVM && b.arch.x86 {
		clock.Timer = append(clock.Timer, libvirtxml.DomainTimer{Name: "tsc", Frequency: uint64(*hints.TSCFrequency)})
	}
	return nil
}

// timers lists exactly the timers of the spec, in a fixed order.
func (b *builder) timers(spec *v1.Timer) ([]libvirtxml.DomainTimer, error) {
	at := domainPath().Child("clock", "timer")
	if !b.arch.x86 && (spec.RTC != nil || spec.PIT != nil || spec.KVM != nil || spec.HPET != nil || spec.Hyperv != nil) {
		return nil, invalid(at, "%s guests have none of these timers; remove the field", b.arch.name)
	}
	var timers []libvirtxml.DomainTimer
	add := func(name string, present *bool) *libvirtxml.DomainTimer {
		timers = append(timers, libvirtxml.DomainTimer{Name: name, Present: yesNo(!isFalse(present))})
		return &timers[len(timers)-1]
	}
	if t := spec.RTC; t != nil {
		timer := add("rtc", t.Enabled)
		timer.TickPolicy, timer.Track = string(t.TickPolicy), string(t.Track)
		if err := oneOf(at.Child("rtc", "tickPolicy"), timer.TickPolicy, "", "delay", "catchup"); err != nil {
			return nil, err
		}
		if err := oneOf(at.Child("rtc", "track"), timer.Track, "", "guest", "wall"); err != nil {
			return nil, err
		}
	}
	if t := spec.PIT; t != nil {
		timer := add("pit", t.Enabled)
		timer.TickPolicy = string(t.TickPolicy)
		if err := oneOf(at.Child("pit", "tickPolicy"), timer.TickPolicy, "", "delay", "catchup", "discard"); err != nil {
			return nil, err
		}
	}
	if t := spec.KVM; t != nil {
		add("kvmclock", t.Enabled)
	}
	if t := spec.HPET; t != nil {
		timer := add("hpet", t.Enabled)
		timer.TickPolicy = string(t.TickPolicy)
		if err := oneOf(at.Child("hpet", "tickPolicy"), timer.TickPolicy, "", "delay", "catchup", "merge", "discard"); err != nil {
			return nil, err
		}
	}
	if t := spec.Hyperv; t != nil {
		add("hypervclock", t.Enabled)
	}
	return timers, nil
}

func oneOf(at *field.Path, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return invalid(at, "%q is not one of %q", value, allowed)
}

// lifecycle says what happens when the guest powers off, reboots or crashes. The launcher sees each as an event.
func (b *builder) lifecycle() error {
	b.dom.OnPoweroff, b.dom.OnReboot, b.dom.OnCrash = "destroy", "restart", "destroy"
	if policy := b.spec.RebootPolicy; policy != nil {
		switch *policy {
		case v1.RebootPolicyReboot:
		case v1.RebootPolicyTerminate:
			b.dom.OnReboot = "destroy"
		default:
			return invalid(domainPath().Child("rebootPolicy"), "%q is not one of Reboot, Terminate", *policy)
		}
	}
	return nil
}
