package network

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"virtctl/embedded/internal/options"
)

// instance is one with everything of its own; alive tells whether its lock is held.
func instance(t *testing.T, number string, alive bool) options.Options {
	t.Helper()
	o := options.Default()
	o.Instance, o.RunDir, o.Bridge = "i"+number, t.TempDir(), "br"+number
	o.PodCIDR, o.ServiceCIDR, o.NodeCIDR = "10.1"+number+".0.0/16", "10.2"+number+".0.0/16", "10.3"+number+".0.0/24"
	o.PodCIDR6, o.ServiceCIDR6, o.NodeCIDR6 = "", "", ""
	f, err := os.Create(o.LockFile())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if alive {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// Stopping one of two clusters must not switch forwarding off under the other.
func TestRelease(t *testing.T) {
	path := filepath.Join(t.TempDir(), "host.json")
	one, two, dead := instance(t, "1", true), instance(t, "2", true), instance(t, "3", false)
	for _, o := range []options.Options{one, two, dead} {
		if err := claim(path, o); err != nil {
			t.Fatal(err)
		}
		if err := setSysctls(path, Sysctls{"no/such/setting": "1"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := release(path, one); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error("the settings were released while the second cluster runs")
	}
	if err := release(path, two); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a killed cluster keeps the settings for ever")
	}
	if err := release(path, two); err != nil {
		t.Errorf("a second release: %v", err)
	}
}

// Two clusters of one name would end each other's processes; of one bridge or range, lose each other's packets.
func TestClaim(t *testing.T) {
	for _, tc := range []struct {
		name  string
		alive bool
		set   func(mine *options.Options, theirs options.Options)
		want  string
	}{
		{"all its own", true, func(*options.Options, options.Options) {}, ""},
		{"again", true, func(mine *options.Options, theirs options.Options) { *mine = theirs }, ""},
		{"name", true, func(mine *options.Options, theirs options.Options) { mine.Instance = theirs.Instance }, "--instance"},
		{"bridge", true, func(mine *options.Options, theirs options.Options) { mine.Bridge = theirs.Bridge }, "--bridge"},
		{"range", true, func(mine *options.Options, theirs options.Options) { mine.NodeCIDR = "10.11.3.0/24" }, "overlaps"},
		{"everything, but killed", false, func(mine *options.Options, theirs options.Options) {
			run := mine.RunDir
			*mine = theirs
			mine.RunDir = run
		}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "host.json")
			theirs, mine := instance(t, "1", tc.alive), instance(t, "2", true)
			if err := claim(path, theirs); err != nil {
				t.Fatal(err)
			}
			tc.set(&mine, theirs)
			err := claim(path, mine)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
