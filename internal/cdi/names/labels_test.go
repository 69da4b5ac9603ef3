package names

import "testing"

// A label that a user or an image put on a disk is found again on the DataSource; one that says who manages the disk is not.
func TestInherited(t *testing.T) {
	for label, want := range map[string]bool{
		"kubevirt.io/dynamic-credentials-support": true, "instancetype.kubevirt.io/default-preference": true, "test.kubevirt.io/any": true,
		"cdi.kubevirt.io/dataImportCron": false, "cdi.kubevirt.io": false, "example.org/any": false, "notkubevirt.io/any": false, "any": false,
	} {
		if Inherited(label) != want {
			t.Errorf("Inherited(%q) is %v", label, !want)
		}
	}
}
