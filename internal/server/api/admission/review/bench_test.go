package review

import (
	"os"
	"testing"

	"sigs.k8s.io/yaml"

	"virtctl/internal/server/api/admission"
)

// A VM's start passes both of these once for the VM and once for its instance: they are part of how long it takes.
func BenchmarkAdmission(b *testing.B) {
	data, err := os.ReadFile("testdata/manifests/vm-fedora-cloudinit.yaml")
	if err != nil {
		b.Fatal(err)
	}
	raw, err := yaml.YAMLToJSON(data)
	if err != nil {
		b.Fatal(err)
	}
	s := testServer(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, answer := admit(b, s, admission.MutateVM, admission.ValidateVM, raw, "alice"); !answer.Allowed {
			b.Fatal(answer.Result.Message)
		}
	}
}
