package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"virtctl/embedded/internal/options"
	"virtctl/embedded/internal/plan"
)

// The arguments of the control plane and the objects of every cluster are a contract: every change should be seen.
func TestControlPlane(t *testing.T) {
	o := options.Default()
	o.Audit = true
	c, err := plan.New(o)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, s := range controlPlane(o, c) {
		b.WriteString(strings.Join(s.Args, "\n  ") + "\n")
	}
	compare(t, "control-plane.txt", b.String())
	b.Reset()
	for _, obj := range objects(c) {
		data, err := yaml.Marshal(obj.value)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString("---\n" + string(data))
	}
	compare(t, "objects.yaml", b.String())
}

func compare(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") != "" {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; refresh it with UPDATE=1 if that is meant. Got:\n%s", path, got)
	}
}
