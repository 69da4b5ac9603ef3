package admission

import (
	"os"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// A webhook that is not installed judges nothing, and nobody notices.
func TestWebhooks(t *testing.T) {
	got, err := yaml.Marshal(Webhooks("kubevirt", []byte("ca")))
	if err != nil {
		t.Fatal(err)
	}
	const file = "testdata/webhooks.yaml"
	if os.Getenv("UPDATE") != "" {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; write it with UPDATE=1", err)
	}
	if string(got) != string(want) {
		t.Errorf("%s is not up to date; look at the difference with UPDATE=1 and git diff\n%s", file, got)
	}
}

func TestHooksAreDistinct(t *testing.T) {
	names, paths := map[string]bool{}, map[string]bool{}
	for _, h := range Hooks() {
		if names[h.Name] || paths[h.Path] || !strings.HasSuffix(h.Name, ".kubevirt.io") || !strings.HasPrefix(h.Path, "/") {
			t.Errorf("%s at %s", h.Name, h.Path)
		}
		names[h.Name], paths[h.Path] = true, true
	}
}
