package review

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/server/api/admission"
)

const bigVMI = `{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstance","metadata":{"name":"vm","labels":{"flavor":"big"}},
	"spec":{"domain":{"memory":{"guest":"64Mi"},"devices":{}}}}`

func bigPreset(name string, cores uint32) *v1.VirtualMachineInstancePreset {
	p := &v1.VirtualMachineInstancePreset{}
	p.Name, p.Namespace = name, "default"
	p.Spec.Selector.MatchLabels = map[string]string{"flavor": "big"}
	p.Spec.Domain = &v1.DomainSpec{CPU: &v1.CPU{Cores: cores}}
	return p
}

// A VMI gets its presets before the defaults, which would fill what the presets are for.
func TestPresetsComeBeforeDefaults(t *testing.T) {
	s := testServer(t, bigPreset("big", 2))
	answer := ask(t, s, admission.MutateVMI, createRequest([]byte(bigVMI), "alice"))
	if !answer.Allowed || !strings.Contains(string(answer.Patch), `"cores":2`) ||
		!strings.Contains(string(answer.Patch), `"virtualmachinepreset.kubevirt.io/big":"kubevirt.io/v1"`) {
		t.Fatalf("%+v %s", answer.Result, answer.Patch)
	}
	deprecated := func(w string) bool { return strings.Contains(w, "VirtualMachineInstancePresets is now deprecated") }
	if !slices.ContainsFunc(answer.Warnings, deprecated) {
		t.Errorf("warnings %q", answer.Warnings)
	}
	// The namespace of a request is not written into a manifest that leaves it open.
	if strings.Contains(string(answer.Patch), `"namespace"`) {
		t.Errorf("patch %s", answer.Patch)
	}
	if answer := ask(t, testServer(t), admission.MutateVMI, createRequest([]byte(bigVMI), "alice")); len(answer.Warnings) > 0 {
		t.Errorf("warned without presets: %q", answer.Warnings)
	}
}

func TestContradictingPresetsRefuseTheVMI(t *testing.T) {
	answer := ask(t, testServer(t, bigPreset("a", 2), bigPreset("b", 4)), admission.MutateVMI, createRequest([]byte(bigVMI), "alice"))
	if answer.Allowed || answer.Result.Code != http.StatusUnprocessableEntity || !strings.Contains(answer.Result.Message, "presets 'b' and 'a' conflict") {
		t.Errorf("%+v", answer.Result)
	}
}

func TestPresetsAreJudged(t *testing.T) {
	const good = `{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstancePreset","metadata":{"name":"p"},
		"spec":{"selector":{"matchLabels":{"a":"b"}},"domain":{"devices":{"disks":[{"name":"any","disk":{"bus":"virtio"}}]}}}}`
	for _, tc := range []struct{ name, change, field string }{
		{"good", `{}`, ""},
		{"no domain", `{"spec":{"domain":null}}`, "spec.domain"},
		{"bad selector", `{"spec":{"selector":{"matchLabels":{"a b":"c"}}}}`, "spec.selector"},
		{"bad bus", `{"spec":{"domain":{"devices":{"disks":[{"name":"a","disk":{"bus":"ide"}}]}}}}`, "spec.domain.devices.disks[0].disk.bus"},
		{"bad firmware", `{"spec":{"domain":{"firmware":{"uuid":"x"}}}}`, "spec.domain.firmware.uuid"},
		{"misspelt", `{"spec":{"domains":{}}}`, "spec.domains"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, answer := admit(t, testServer(t), "", admission.ValidatePreset, merge(t, good, tc.change), "alice")
			if answer.Allowed != (tc.field == "") {
				t.Fatalf("%+v", answer)
			}
			if tc.field != "" && !strings.Contains(answer.Result.Message, tc.field) {
				t.Errorf("%q does not name %s", answer.Result.Message, tc.field)
			}
		})
	}
}
