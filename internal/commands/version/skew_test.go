package version_test

import (
	"strings"
	"testing"

	"virtctl/internal/commands/version"
)

// Only another minor version is worth a word: patches of the same one understand each other.
func TestSkew(t *testing.T) {
	for _, test := range []struct {
		client, server string
		differ         bool
	}{
		{"v1.9.0+virtctl.0.1.0", "v1.9.0+virtctl.0.2.0", false},
		{"v1.9.0", "v1.9.3", false},
		{"v1.9.0", "v1.8.0", true},
		{"v1.9.0", "v2.9.0", true},
		{"v1.9.0", "", false},
		{"v1.9.0", "devel", false},
	} {
		note := version.Skew(test.client, test.server)
		if (note != "") != test.differ || test.differ && !strings.Contains(note, test.server) {
			t.Errorf("%s and %s: %q", test.client, test.server, note)
		}
	}
}
