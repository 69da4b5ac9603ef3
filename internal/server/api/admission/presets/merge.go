package presets

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	v1 "kubevirt.io/api/core/v1"
)

// setting is one part of a domain that presets fill as a whole.
type setting struct {
	// field is its path in the contract's messages.
	field string
	// given tells whether a domain has it.
	given func(d *v1.DomainSpec) bool
	// value is what is compared; it is asked for only where it is given.
	value func(d *v1.DomainSpec) any
	// whole is what must be equal for the setting to count as the preset's; nil means value.
	whole func(d *v1.DomainSpec) any
	// copy fills it from another domain that has it.
	copy func(from, to *v1.DomainSpec)
}

// settings are all that presets fill; the rest of a preset's domain has no meaning.
func settings() []setting {
	return []setting{
		{
			field: "spec.resources.requests",
			given: func(d *v1.DomainSpec) bool { return len(d.Resources.Requests) > 0 },
			value: func(d *v1.DomainSpec) any { return d.Resources.Requests },
			copy:  func(from, to *v1.DomainSpec) { to.Resources.Requests = from.Resources.Requests.DeepCopy() },
		},
		{
			field: "spec.cpu",
			given: func(d *v1.DomainSpec) bool { return d.CPU != nil },
			value: func(d *v1.DomainSpec) any { return d.CPU },
			copy:  func(from, to *v1.DomainSpec) { to.CPU = from.CPU.DeepCopy() },
		},
		{
			field: "spec.firmware",
			given: func(d *v1.DomainSpec) bool { return d.Firmware != nil },
			value: func(d *v1.DomainSpec) any { return d.Firmware },
			copy:  func(from, to *v1.DomainSpec) { to.Firmware = from.Firmware.DeepCopy() },
		},
		// The offset comes before the timers: only a domain without any clock takes it.
		{
			field: "spec.clock.clockoffset",
			given: func(d *v1.DomainSpec) bool { return d.Clock != nil },
			value: func(d *v1.DomainSpec) any { return d.Clock.ClockOffset },
			whole: func(d *v1.DomainSpec) any { return d.Clock },
			copy:  func(from, to *v1.DomainSpec) { to.Clock = &v1.Clock{ClockOffset: *from.Clock.ClockOffset.DeepCopy()} },
		},
		{
			field: "spec.clock.timer",
			given: func(d *v1.DomainSpec) bool { return d.Clock != nil && d.Clock.Timer != nil },
			value: func(d *v1.DomainSpec) any { return d.Clock.Timer },
			copy:  func(from, to *v1.DomainSpec) { to.Clock.Timer = from.Clock.Timer.DeepCopy() },
		},
		{
			field: "spec.features",
			given: func(d *v1.DomainSpec) bool { return d.Features != nil },
			value: func(d *v1.DomainSpec) any { return d.Features },
			copy:  func(from, to *v1.DomainSpec) { to.Features = from.Features.DeepCopy() },
		},
		{
			field: "spec.devices.watchdog",
			given: func(d *v1.DomainSpec) bool { return d.Devices.Watchdog != nil },
			value: func(d *v1.DomainSpec) any { return d.Devices.Watchdog },
			copy:  func(from, to *v1.DomainSpec) { to.Devices.Watchdog = from.Devices.Watchdog.DeepCopy() },
		},
		{
			field: "spec.ioThreadsPolicy",
			given: func(d *v1.DomainSpec) bool { return d.IOThreadsPolicy != nil },
			value: func(d *v1.DomainSpec) any { return *d.IOThreadsPolicy },
			copy:  func(from, to *v1.DomainSpec) { policy := *from.IOThreadsPolicy; to.IOThreadsPolicy = &policy },
		},
	}
}

// merge fills what the VMI leaves open, and gives whether the preset was of use: whether the VMI has any of its settings now. What
// contradicts the VMI is listed and not taken.
func merge(preset, vmi *v1.DomainSpec) (bool, []string) {
	conflicts := contradictions(preset, vmi)
	used := false
	for _, s := range settings() {
		if !s.given(preset) {
			continue
		}
		// Requests that are there, even if empty, are the VMI's word.
		if !s.given(vmi) && (s.field != "spec.resources.requests" || vmi.Resources.Requests == nil) {
			s.copy(preset, vmi)
		}
		whole := s.whole
		if whole == nil {
			whole = s.value
		}
		if s.given(vmi) && equality.Semantic.DeepEqual(whole(preset), whole(vmi)) {
			used = true
		}
	}
	return used, conflicts
}

// contradictions lists what both domains say differently. Of requests each is compared with its own.
func contradictions(a, b *v1.DomainSpec) []string {
	var out []string
	for _, s := range settings() {
		if !s.given(a) || !s.given(b) {
			continue
		}
		if s.field == "spec.resources.requests" {
			out = append(out, requests(a, b)...)
		} else if !equality.Semantic.DeepEqual(s.value(a), s.value(b)) {
			out = append(out, fmt.Sprintf("%s: %s != %s", s.field, text(s.value(a)), text(s.value(b))))
		}
	}
	return out
}

func requests(a, b *v1.DomainSpec) []string {
	var out []string
	for name, wanted := range a.Resources.Requests {
		if has, ok := b.Resources.Requests[name]; ok && wanted.Cmp(has) != 0 {
			out = append(out, fmt.Sprintf("spec.resources.requests[%s]: %s != %s", name, wanted.String(), has.String()))
		}
	}
	slices.SortFunc(out, cmp.Compare[string])
	return out
}

// text shows a setting as its user wrote it.
func text(value any) string {
	out, err := json.Marshal(value)
	if err != nil {
		return "?"
	}
	return string(out)
}
