package node

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/clusterconfig"
)

// The labels decide where VMs can be scheduled; this is what a real probe led to.
func TestLabels(t *testing.T) {
	p, err := ReadProbe("testdata/probe")
	if err != nil {
		t.Fatal(err)
	}
	if p.KVM || p.Reason == "" || !p.HostModel() {
		t.Errorf("kvm %v (%s), host model %v", p.KVM, p.Reason, p.HostModel())
	}
	labels := Labels(p, clusterconfig.Effective(nil))
	for l := range labels {
		if !managed(l) {
			t.Errorf("%s would never be removed again", l)
		}
	}
	got, err := json.MarshalIndent(labels, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "labels.json")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)+"\n"); d != "" {
		t.Error(d)
	}
	obsolete := clusterconfig.Effective(&v1.KubeVirt{Spec: v1.KubeVirtSpec{Configuration: v1.KubeVirtConfiguration{
		ObsoleteCPUModels: map[string]bool{"Nehalem": true},
	}}})
	if _, ok := Labels(p, obsolete)[v1.CPUModelLabel+"Nehalem"]; ok {
		t.Error("a model that the cluster calls obsolete is offered")
	}
}

func TestCapabilitiesCache(t *testing.T) {
	p, err := ReadProbe("testdata/probe")
	if err != nil {
		t.Fatal(err)
	}
	if cache := p.CapabilitiesCache(false); len(cache) != 1 || len(cache["0011.xml"]) == 0 {
		t.Errorf("cache %v", cache)
	}
	if cache := p.CapabilitiesCache(true); len(cache) != 0 {
		t.Errorf("a cache without a probe: %v", cache)
	}
}

// A node that was not probed runs guests all the same, without hardware virtualization.
func TestNoProbe(t *testing.T) {
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "missing")} {
		p, err := ReadProbe(dir)
		if err != nil || p != nil {
			t.Fatalf("%v, %v", p, err)
		}
		if p.HostModel() || p.CapabilitiesCache(false) != nil || len(Labels(p, clusterconfig.Effective(nil))) != 0 {
			t.Error("something out of nothing")
		}
	}
}

func FuzzParseCPU(f *testing.F) {
	f.Add(`<domainCapabilities><cpu><mode name='host-model' supported='yes'><model>x</model></mode></cpu></domainCapabilities>`)
	f.Fuzz(func(_ *testing.T, s string) { _, _ = parseCPU(s) })
}
