package network

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"virtctl/embedded/internal/options"
)

func instance(t *testing.T, name string, alive bool) options.Options {
	t.Helper()
	o := options.Default()
	o.Instance, o.RunDir = name, t.TempDir()
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
func TestSharedSysctls(t *testing.T) {
	path := filepath.Join(t.TempDir(), "host.json")
	one, two, dead := instance(t, "one", true), instance(t, "two", true), instance(t, "dead", false)
	for _, o := range []options.Options{one, two, dead} {
		if err := acquireSysctls(path, o, Sysctls{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := releaseSysctls(path, one); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error("the settings were released while the second cluster runs")
	}
	if err := releaseSysctls(path, two); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a killed cluster keeps the settings for ever")
	}
	if err := releaseSysctls(path, two); err != nil {
		t.Errorf("a second release: %v", err)
	}
}
