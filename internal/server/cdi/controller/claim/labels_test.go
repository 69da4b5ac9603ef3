package claim

import "testing"

// An image may say what machine it suits; it may not pass its disk off as a DataImportCron's, which would let the cron delete it.
func TestAllowedLabel(t *testing.T) {
	for label, want := range map[[2]string]bool{
		{"instancetype.kubevirt.io/default-preference", "fedora"}: true,
		{"cdi.kubevirt.io/dataImportCron", "images.cron"}:         false,
		{"example.org/any", "any"}:                                false,
		{"test.kubevirt.io/no name", "any"}:                       false,
		{"test.kubevirt.io/any", "no value!"}:                     false,
	} {
		if allowedLabel(label[0], label[1]) != want {
			t.Errorf("%s=%s is allowed: %v", label[0], label[1], !want)
		}
	}
}
