package logs

import "testing"

// The guest's lines are the guest's whatever they look like; only what the launcher and libvirt write is left out.
func TestIsLaunchers(t *testing.T) {
	for line, want := range map[string]bool{
		"virt-launcher: started\n": true,
		"2026-11-22 23:41:04.123+0000: 12: warning : virCgroupGetMemoryStat\n": true,
		"2026-11-22 23:41:04 web kernel: hello\n":                              false,
		"Welcome to virt-launcher: a game\n":                                   false,
		"\n":                                                                   false,
		"":                                                                     false,
	} {
		if got := isLaunchers(line, false); got != want {
			t.Errorf("%q: %v", line, got)
		}
		if got := isLaunchers("2026-11-22T23:41:04.1Z "+line, true); got != want {
			t.Errorf("with a timestamp, %q: %v", line, got)
		}
	}
}

func FuzzIsLaunchers(f *testing.F) {
	f.Add("2026-11-22 23:41:04.123+0000: 12: warning", true)
	f.Fuzz(func(_ *testing.T, line string, timestamps bool) { isLaunchers(line, timestamps) })
}
