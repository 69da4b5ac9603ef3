package presets

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func preset(t testing.TB, name, domain string) v1.VirtualMachineInstancePreset {
	t.Helper()
	p := v1.VirtualMachineInstancePreset{}
	p.Name, p.Namespace = name, "default"
	p.Spec.Selector.MatchLabels = map[string]string{"flavor": "big"}
	p.Spec.Domain = domainOf(t, domain)
	return p
}

func domainOf(t testing.TB, text string) *v1.DomainSpec {
	t.Helper()
	d := &v1.DomainSpec{}
	if err := yaml.UnmarshalStrict([]byte(text), d); err != nil {
		t.Fatal(err)
	}
	return d
}

func instance(t testing.TB, domain string) *v1.VirtualMachineInstance {
	t.Helper()
	vmi := &v1.VirtualMachineInstance{}
	vmi.Name, vmi.Namespace, vmi.Labels = "vm", "default", map[string]string{"flavor": "big"}
	vmi.Spec.Domain = *domainOf(t, domain)
	return vmi
}

// A preset fills what the VMI leaves open and never what it says.
func TestMerge(t *testing.T) {
	for _, tc := range []struct {
		name, preset, vmi, want string
		used                    bool
		warns                   string
	}{
		{"an empty VMI takes everything", `
cpu: {cores: 2}
resources: {requests: {memory: 1Gi}}
firmware: {uuid: c8f99fc8-20f5-46c4-85e5-2b841c547cef}
clock: {utc: {}, timer: {hpet: {present: false}}}
features: {acpi: {}}
devices: {watchdog: {name: w, i6300esb: {action: poweroff}}}
ioThreadsPolicy: shared`, `{}`, `
cpu: {cores: 2}
resources: {requests: {memory: 1Gi}}
firmware: {uuid: c8f99fc8-20f5-46c4-85e5-2b841c547cef}
clock: {utc: {}, timer: {hpet: {present: false}}}
features: {acpi: {}}
devices: {watchdog: {name: w, i6300esb: {action: poweroff}}}
ioThreadsPolicy: shared`, true, ""},
		{"other parts of a domain have no meaning", `{memory: {guest: 1Gi}, devices: {disks: [{name: a}]}}`, `{}`, `{}`, false, ""},
		{"what is the same is the preset's too", `{cpu: {cores: 2}}`, `{cpu: {cores: 2}}`, `{cpu: {cores: 2}}`, true, ""},
		{"the VMI wins", `{cpu: {cores: 2}}`, `{cpu: {cores: 4}}`, `{cpu: {cores: 4}}`, false, `spec.cpu: {"cores":2} != {"cores":4}`},
		{"and takes the rest", `{cpu: {cores: 2}, features: {acpi: {}}}`, `{cpu: {cores: 4}}`, `{cpu: {cores: 4}, features: {acpi: {}}}`, true, "spec.cpu"},
		{
			"requests are compared one by one", `{resources: {requests: {memory: 1Gi, cpu: 1}}}`, `{resources: {requests: {memory: 1024Mi, cpu: 2}}}`,
			`{resources: {requests: {memory: 1024Mi, cpu: 2}}}`, false, "spec.resources.requests[cpu]: 1 != 2",
		},
		{"and taken as a whole", `{resources: {requests: {memory: 1Gi, cpu: 1}}}`, `{resources: {requests: {memory: 1Gi}}}`, `{resources: {requests: {memory: 1Gi}}}`, false, ""},
		{
			"timers go into a clock that is there", `{clock: {timer: {hpet: {present: false}}}}`, `{clock: {utc: {}}}`,
			`{clock: {utc: {}, timer: {hpet: {present: false}}}}`, true, "spec.clock.clockoffset",
		},
		{
			"timers that differ stay", `{clock: {timer: {hpet: {present: false}}}}`, `{clock: {timer: {pit: {present: false}}}}`,
			`{clock: {timer: {pit: {present: false}}}}`, false, "spec.clock.timer",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			vmi := instance(t, tc.vmi)
			warnings, err := Apply(vmi, []v1.VirtualMachineInstancePreset{preset(t, "p", tc.preset)})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(domainOf(t, tc.want), &vmi.Spec.Domain); diff != "" {
				t.Errorf("domain (-want +got):\n%s", diff)
			}
			if got := vmi.Annotations["virtualmachinepreset.kubevirt.io/p"]; (got == "kubevirt.io/v1") != tc.used {
				t.Errorf("annotation %q, used %v", got, tc.used)
			}
			if slices.Contains(warnings, deprecated) != tc.used {
				t.Errorf("deprecation is told with %v: %q", tc.used, warnings)
			}
			if text := strings.Join(warnings, "\n"); !strings.Contains(text, tc.warns) || (tc.warns == "") == strings.Contains(text, "were kept") {
				t.Errorf("warnings %q, want %q", text, tc.warns)
			}
		})
	}
}

func TestWhichPresetsApply(t *testing.T) {
	elsewhere := preset(t, "elsewhere", `{cpu: {cores: 2}}`)
	elsewhere.Namespace = "other"
	others := preset(t, "others", `{cpu: {cores: 2}}`)
	others.Spec.Selector.MatchLabels = map[string]string{"flavor": "small"}
	everybody := preset(t, "everybody", `{cpu: {cores: 2}}`)
	everybody.Spec.Selector.MatchLabels = nil
	empty := preset(t, "empty", `{}`)
	empty.Spec.Domain = nil
	for _, tc := range []struct {
		name    string
		presets []v1.VirtualMachineInstancePreset
		exclude string
		want    bool
	}{
		{"of another namespace", []v1.VirtualMachineInstancePreset{elsewhere}, "", false},
		{"for other labels", []v1.VirtualMachineInstancePreset{others}, "", false},
		{"an empty selector", []v1.VirtualMachineInstancePreset{everybody}, "", true},
		{"without a domain", []v1.VirtualMachineInstancePreset{empty}, "", false},
		{"a VMI that wants none", []v1.VirtualMachineInstancePreset{everybody}, "true", false},
		{"only true excludes", []v1.VirtualMachineInstancePreset{everybody}, "false", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			vmi := instance(t, `{}`)
			if tc.exclude != "" {
				vmi.Annotations = map[string]string{"virtualmachineinstancepresets.admission.kubevirt.io/exclude": tc.exclude}
			}
			if _, err := Apply(vmi, tc.presets); err != nil {
				t.Fatal(err)
			}
			if got := vmi.Spec.Domain.CPU != nil; got != tc.want {
				t.Errorf("applied: %v", got)
			}
		})
	}
}

// Presets that contradict each other leave nobody knowing what the VMI is: it is not made.
func TestContradictingPresets(t *testing.T) {
	vmi := instance(t, `{}`)
	_, err := Apply(vmi, []v1.VirtualMachineInstancePreset{preset(t, "b", `{cpu: {cores: 2}}`), preset(t, "a", `{cpu: {cores: 4}}`)})
	const want = `VirtualMachinePresets cannot be applied due to conflicts: presets 'b' and 'a' conflict: spec.cpu: {"cores":2} != {"cores":4}`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if vmi.Spec.Domain.CPU != nil || len(vmi.Annotations) > 0 {
		t.Errorf("something was applied: %+v", vmi)
	}
	agree := []v1.VirtualMachineInstancePreset{preset(t, "a", `{cpu: {cores: 2}}`), preset(t, "b", `{cpu: {cores: 2}, features: {acpi: {}}}`)}
	if _, err := Apply(vmi, agree); err != nil || len(vmi.Annotations) != 2 {
		t.Errorf("%v, %v", err, vmi.Annotations)
	}
}

// What a preset brought belongs to the VMI: a later default must not reach into the cache it came from.
func TestPresetsAreNotShared(t *testing.T) {
	p := preset(t, "p", `{cpu: {cores: 2}, resources: {requests: {memory: 1Gi}}, clock: {timer: {hpet: {}}}, features: {acpi: {}}, devices: {watchdog: {name: w, i6300esb: {}}}}`)
	before := p.DeepCopy()
	vmi := instance(t, `{}`)
	if _, err := Apply(vmi, []v1.VirtualMachineInstancePreset{p}); err != nil {
		t.Fatal(err)
	}
	d := &vmi.Spec.Domain
	d.CPU.Cores, d.Devices.Watchdog.Name = 8, "mine"
	d.Clock.Timer.HPET, d.Features.ACPI.Enabled = nil, new(bool)
	delete(d.Resources.Requests, "memory")
	if diff := cmp.Diff(*before, p); diff != "" {
		t.Errorf("the preset changed:\n%s", diff)
	}
}

func TestABadSelectorNamesItsPreset(t *testing.T) {
	p := preset(t, "odd", `{}`)
	p.Spec.Selector.MatchLabels = map[string]string{"a b": "c"}
	if _, err := Apply(instance(t, `{}`), []v1.VirtualMachineInstancePreset{p}); err == nil || !strings.Contains(err.Error(), "odd") {
		t.Errorf("got %v", err)
	}
}
