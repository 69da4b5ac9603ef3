package crds

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func named(all []*unstructured.Unstructured, err error) ([]string, error) {
	var out []string
	for _, crd := range all {
		out = append(out, crd.GetName())
	}
	return out, err
}

// Each operator installs its own definitions: one that an operator does not know is never upgraded, one that both apply is
// fought over, and virt-operator deletes what it installed before CDI's objects may go.
func TestEveryDefinitionHasOneOwner(t *testing.T) {
	owners := map[string]string{}
	own := func(owner string, names ...string) {
		for _, name := range names {
			if other := owners[name]; other != "" {
				t.Errorf("%s belongs to %s and to %s", name, other, owner)
			}
			owners[name] = owner
		}
	}
	for owner, list := range map[string]func() ([]string, error){
		"virt-operator": func() ([]string, error) { return named(Platform()) },
		"cdi-operator":  func() ([]string, error) { return named(Storage()) },
	} {
		found, err := list()
		if err != nil {
			t.Fatal(err)
		}
		own(owner, found...)
	}
	for _, get := range []func() (string, error){
		func() (string, error) { crd, err := KubeVirt(); return crd.GetName(), err },
		func() (string, error) { crd, err := CDI(); return crd.GetName(), err },
	} {
		name, err := get()
		if err != nil {
			t.Fatal(err)
		}
		own("virtctl install", name)
	}
	files, err := list(func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(owners) {
		t.Errorf("%d definitions, %d of them have an owner", len(files), len(owners))
	}
	for _, name := range []string{"datavolumes.cdi.kubevirt.io", "ovirtvolumepopulators.forklift.cdi.kubevirt.io"} {
		if owners[name] != "cdi-operator" {
			t.Errorf("%s is installed by %q", name, owners[name])
		}
	}
}
