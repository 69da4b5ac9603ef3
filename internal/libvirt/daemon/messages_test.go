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
	copyMessages(&out, strings.NewReader(in+"\n"), warn)
	want := "virt-launcher: libvirt: internal error: QEMU said: no\nvirt-launcher: libvirt: something: odd\nvirt-launcher: libvirt: plain words\nvirt-launcher: libvirt: " +
		strings.Repeat("x", maxMessage) + "\n"
	if out.String() != want {
		t.Fatalf("got\n%s", out.String())
	}
}

// With its log asked for, everything libvirt says is there, as log collectors read it.
func TestDebugMessages(t *testing.T) {
	var out bytes.Buffer
	copyMessages(&out, strings.NewReader("2026-11-22 22:57:05.154+0000: 19: info : qemuMonitorSend:920 : QEMU_MONITOR_SEND_MSG: mon=0x7f\n"), tell)
	want := `{"component":"virt-launcher","level":"info","msg":"QEMU_MONITOR_SEND_MSG: mon=0x7f","pos":"qemuMonitorSend:920",` +
		`"subcomponent":"libvirt","thread":"19","timestamp":"2026-11-22 22:57:05.154+0000"}` + "\n"
	if out.String() != want {
		t.Fatalf("got\n%s", out.String())
	}
}

// Filters come from whoever writes the VM: they must not become other settings of libvirt's.
func TestCheckLogFilters(t *testing.T) {
	for _, good := range []string{"", "1:qemu", "3:remote 4:event 3:util.json 1:*", "1:+qemu.qemu_monitor"} {
		if err := CheckLogFilters(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"qemu", "5:qemu", "1:qemu\"\nunix_sock_rw_perms = \"0777", "1:qemu\n", strings.Repeat("1:q ", maxFilters)} {
		if CheckLogFilters(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzMessage(f *testing.F) {
	f.Add("2026-11-22 22:57:05.154+0000: 19: info : a : b")
	f.Add(": : : : ")
	f.Fuzz(func(t *testing.T, line string) {
		if m := parseMessage(line); len(m.Text) > len(line) {
			t.Fatal("a message grew")
		}
	})
}
