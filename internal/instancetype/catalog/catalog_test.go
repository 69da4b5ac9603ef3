package catalog

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/instancetype"
)

// Names are what users type; a name that vanishes breaks their machines.
func TestCatalogHasTheUsualNames(t *testing.T) {
	names := map[string]bool{}
	for _, it := range Instancetypes() {
		if names[it.Name] {
			t.Errorf("%s is there twice", it.Name)
		}
		names[it.Name] = true
	}
	for _, p := range Preferences() {
		if names[p.Name] {
			t.Errorf("%s is there twice", p.Name)
		}
		names[p.Name] = true
	}
	for _, want := range []string{
		"u1.nano", "u1.micro", "u1.small", "u1.medium", "u1.large", "u1.8xlarge", "o1.small", "cx1.medium", "cx1.large1gi", "m1.large",
		"n1.medium", "rt1.micro", "fedora", "ubuntu", "rhel.9", "centos.stream9", "cirros", "alpine", "windows.11", "windows.2k22.virtio",
	} {
		if !names[want] {
			t.Errorf("%s is missing", want)
		}
	}
}

// Every preference fits every universal type that is large enough: applying them leaves nothing unmet and no conflict.
func TestPreferencesFitUniversalTypes(t *testing.T) {
	for _, it := range Instancetypes() {
		if it.Name != "u1.large" {
			continue
		}
		for _, p := range Preferences() {
			types := instancetype.Types{Instancetype: &it.Spec, Preference: &p.Spec}
			spec := &v1.VirtualMachineInstanceSpec{}
			if c := types.Conflicts(field.NewPath("spec"), spec); len(c) > 0 {
				t.Errorf("%s: an empty machine conflicts: %v", p.Name, c)
			}
			types.Apply(&metav1.ObjectMeta{}, spec)
			if unmet := types.Unmet(field.NewPath("spec"), spec); len(unmet) > 0 && p.Name != "rhel.9.realtime" {
				t.Errorf("%s on u1.large: %v", p.Name, unmet)
			}
		}
	}
}
