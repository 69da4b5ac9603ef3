package daemon

import (
	"bytes"
	"strings"
	"testing"
)

// The pod's log must show libvirt's complaints, and only those a person can do something about.
func TestMessages(t *testing.T) {
	in := strings.Join([]string{
		"2026-11-22 22:57:05.154+0000: 19: info : libvirt version: 11.3.0, package: 11.3.0-3+deb13u3 (Debian)",
		"2026-11-22 22:57:05.154+0000: 19: error : virHostCPUGetCPUID:1467 : Unable to open /dev/kvm: No such file or directory",
		"2026-11-22 22:57:05.566+0000: 16: error : qemuProcessReportLogError:2089 : internal error: QEMU said: no",
		"2026-11-22 22:57:05.566+0000: 16: warning : something: odd",
		"plain words",
		strings.Repeat("x", 2*maxMessage),
	}, "\n")
	var out bytes.Buffer
	copyMessages(&out, strings.NewReader(in+"\n"))
	want := "virt-launcher: libvirt: internal error: QEMU said: no\nvirt-launcher: libvirt: something: odd\nvirt-launcher: libvirt: plain words\nvirt-launcher: libvirt: " +
		strings.Repeat("x", maxMessage) + "\n"
	if out.String() != want {
		t.Fatalf("got\n%s", out.String())
	}
}

func FuzzSplitMessage(f *testing.F) {
	f.Add("2026-11-22 22:57:05.154+0000: 19: info : a : b")
	f.Add(": : : : ")
	f.Fuzz(func(t *testing.T, line string) {
		if _, text := splitMessage(line); len(text) > len(line) {
			t.Fatal("a message grew")
		}
	})
}
