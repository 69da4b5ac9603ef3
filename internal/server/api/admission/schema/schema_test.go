package schema

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	v1 "kubevirt.io/api/core/v1"
)

func TestCheck(t *testing.T) {
	for _, tc := range []struct{ name, object, field, text string }{
		{"empty", `{}`, "", ""},
		{"every sort of value", `{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachine","metadata":{"name":"a","labels":{"a":"b"},"creationTimestamp":null,"managedFields":[{"fieldsV1":{"f:x":{}}}]},
			"spec":{"running":true,"template":{"spec":{"domain":{"cpu":{"cores":2},"memory":{"guest":"1Gi"},"resources":{"limits":{"cpu":1,"devices/x":"1E"}},"devices":{"disks":[{"name":"a","bootOrder":1,"disk":{}}]}},
			"readinessProbe":{"httpGet":{"port":"http"}},"terminationGracePeriodSeconds":0}}},"status":{"startFailure":{"retryAfterTimestamp":"2026-01-01T00:00:00Z"}}}`, "", ""},
		{"embedded struct", `{"spec":{"template":{"spec":{"volumes":[{"name":"a","persistentVolumeClaim":{"claimName":"c","hotpluggable":true}}]}}}}`, "", ""},
		{"unknown", `{"spec":{"speed":1}}`, "spec.speed", "unknown field"},
		{"unknown in a list", `{"spec":{"template":{"spec":{"volumes":[{"name":"a"},{"nome":"b"}]}}}}`, "spec.template.spec.volumes[1].nome", "unknown field"},
		// The types decode this part leniently themselves.
		{
			"unknown in a lenient part", `{"spec":{"template":{"spec":{"domain":{"devices":{"interfaces":[{"dhcpOptions":{"ntp":[]}}]}},"networks":[{"pod":{"cidr":"x"}}]}}}}`,
			"spec.template.spec.networks[0].pod.cidr", "unknown field",
		},
		{"wrong case", `{"spec":{"Template":{}}}`, "spec.Template", `did you mean "template"?`},
		{"number for a text", `{"metadata":{"name":1}}`, "metadata.name", "must be a string, not a number"},
		{"text for a flag", `{"spec":{"running":"yes"}}`, "spec.running", "must be true or false"},
		{"fraction", `{"spec":{"template":{"spec":{"domain":{"cpu":{"cores":1.5}}}}}}`, "spec.template.spec.domain.cpu.cores", "whole number"},
		{"too large", `{"spec":{"template":{"spec":{"domain":{"cpu":{"cores":4294967296}}}}}}`, "spec.template.spec.domain.cpu.cores", "range"},
		{"object for a list", `{"spec":{"dataVolumeTemplates":{}}}`, "spec.dataVolumeTemplates", "must be a list"},
		{"list for an object", `{"spec":[]}`, "spec", "must be an object"},
		{"text for a map", `{"metadata":{"labels":"a"}}`, "metadata.labels", "must be an object"},
		{"not a quantity", `{"spec":{"template":{"spec":{"domain":{"memory":{"guest":"much"}}}}}}`, "spec.template.spec.domain.memory.guest", "not a quantity"},
		{"flag for a quantity", `{"spec":{"template":{"spec":{"domain":{"memory":{"guest":true}}}}}}`, "spec.template.spec.domain.memory.guest", "a quantity"},
		{"not JSON", `{`, "", "not JSON"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			causes := Check([]byte(tc.object), &v1.VirtualMachine{})
			if tc.text == "" {
				if len(causes) > 0 {
					t.Errorf("refused: %+v", causes)
				}
				return
			}
			for _, c := range causes {
				if c.Field == tc.field && strings.Contains(c.Message, tc.text) {
					return
				}
			}
			t.Errorf("no %q at %s: %+v", tc.text, tc.field, causes)
		})
	}
}

// One object with such a number kept a server busy for hours, found by the fuzzer.
func TestHugeExponentsAreCheap(t *testing.T) {
	for _, q := range []string{`"1e999999999"`, `1e999999999`, `"1E-999999999"`, `"` + strings.Repeat("9", 100) + `"`, `"1e+99"`, `"1e1e1"`} {
		begin := time.Now()
		causes := Check([]byte(`{"spec":{"template":{"spec":{"domain":{"memory":{"guest":`+q+`}}}}}}`), &v1.VirtualMachine{})
		if len(causes) != 1 {
			t.Errorf("%s: %+v", q, causes)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("%s took %s", q, took)
		}
	}
	for _, q := range []string{"1E", "1Ei", "1e3", "1E6", "12e6", "0.5"} {
		if !reasonable(q) {
			t.Errorf("%s is refused", q)
		}
	}
}

// What passes the check must decode.
func FuzzCheck(f *testing.F) {
	f.Add([]byte(`{"spec":{"template":{"spec":{"domain":{"cpu":{"cores":2},"memory":{"guest":"1Gi"}}}}}}`))
	f.Add([]byte(`{"metadata":{"labels":{"a":"b"}},"spec":{"RunStrategy":1}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		vm := &v1.VirtualMachine{}
		if len(Check(raw, vm)) == 0 {
			// Values that decode themselves, such as times, may still be refused.
			_ = json.Unmarshal(raw, vm)
		}
	})
}
