package vmi

import (
	"encoding/json"
	"testing"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/api/equality"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/libvirt/wire"
	"virtctl/internal/server/handler/status"
)

func seen(state wire.DomainState, reason wire.Reason) *status.Observed {
	return &status.Observed{
		Now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Node: nodeName, PodUID: podUID, HostModel: true,
		State: wire.State{State: state, Reason: reason}, Domain: &status.Domain{Machine: "q35", Targets: map[string]string{"root": "vda"}},
	}
}

// The patch must lead exactly to what was computed, also from an object as the API server stores it: without the fields that
// our types always write.
func TestPatchArrives(t *testing.T) {
	agent := seen(wire.StateRunning, wire.ReasonBooted)
	agent.Agent = true
	agent.Guest = &wire.GuestInfo{OS: wire.GuestOS{ID: "debian"}}
	steps := []*status.Observed{
		seen(wire.StateRunning, wire.ReasonBooted), agent, seen(wire.StatePaused, wire.ReasonUser),
		seen(wire.StatePaused, wire.ReasonIOError), seen(wire.StateRunning, wire.ReasonUnpaused), seen(wire.StateShutoff, wire.ReasonShutdown),
	}
	vmi := newVMI()
	stored := stripped(t, vmi)
	for i, o := range steps {
		raw, err := patchFor(vmi, o)
		if err != nil {
			t.Fatal(err)
		}
		patch, err := jsonpatch.DecodePatch(raw)
		if err != nil {
			t.Fatalf("step %d: %v in %s", i, err, raw)
		}
		if stored, err = patch.Apply(stored); err != nil {
			t.Fatalf("step %d: %v in %s", i, err, raw)
		}
		want := vmi.DeepCopy()
		status.Apply(vmi, &want.Status, o)
		got := &v1.VirtualMachineInstance{}
		if err := json.Unmarshal(stored, got); err != nil {
			t.Fatal(err)
		}
		if !equality.Semantic.DeepEqual(want.Status, got.Status) {
			a, _ := json.Marshal(want.Status)
			b, _ := json.Marshal(got.Status)
			t.Fatalf("step %d:\nwant %s\ngot  %s", i, a, b)
		}
		vmi = got
		if again, err := patchFor(vmi, o); err != nil || again != nil {
			t.Errorf("step %d: a second patch: %s, %v", i, again, err)
		}
	}
}

// stripped is an object without empty values, as a client in another language would have made it.
func stripped(t *testing.T, vmi *v1.VirtualMachineInstance) []byte {
	t.Helper()
	raw, err := json.Marshal(vmi)
	if err != nil {
		t.Fatal(err)
	}
	var m any
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	if raw, err = json.Marshal(strip(m)); err != nil {
		t.Fatal(err)
	}
	return raw
}

func strip(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			e = strip(e)
			if m, ok := e.(map[string]any); e == nil || e == "" || e == float64(0) || ok && len(m) == 0 {
				continue
			}
			out[k] = e
		}
		return out
	case []any:
		out := make([]any, 0, len(v))
		for _, e := range v {
			out = append(out, strip(e))
		}
		return out
	}
	return v
}
