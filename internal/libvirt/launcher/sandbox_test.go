//go:build libvirt

package launcher_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"virtctl/internal/libvirt/wire"
)

// filters is the number of a process's or thread's seccomp filters, from its status.
func filters(t *testing.T, status string) int {
	t.Helper()
	text, err := os.ReadFile(status)
	must(t, err)
	for line := range strings.Lines(string(text)) {
		var n int
		if _, err := fmt.Sscanf(line, "Seccomp_filters: %d", &n); err == nil {
			return n
		}
	}
	t.Fatalf("%s knows no seccomp filters", status)
	return 0
}

// QEMU filters its own system calls, in every thread, beside what a container runtime does: in this pod there is none of those.
func TestQEMUIsInItsSandbox(t *testing.T) {
	p := newPod(t, podOptions{})
	w := p.watch()
	p.start(domainXML(""))
	w.state(wire.StateRunning)
	if n := filters(t, fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid)); n != 0 {
		t.Fatalf("the launcher has %d filters: this test would prove nothing", n)
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.pidOf("qemu-system")))
	must(t, err)
	if len(threads) < 2 {
		t.Fatalf("QEMU has %d threads", len(threads))
	}
	for _, status := range threads {
		if filters(t, status) == 0 {
			t.Errorf("%s: no filter", status)
		}
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pidOf("qemu-system")))
	must(t, err)
	if args := strings.ReplaceAll(string(line), "\x00", " "); !strings.Contains(args, "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny ") {
		t.Errorf("QEMU was started with %s", args)
	}
	must(t, p.Quit(p.context()))
	p.wait()
}

// What the guest has no use for is not there: QEMU's code for screens and sound of its own machine.
func TestQEMUHasNoScreensAndNoSound(t *testing.T) {
	modules, err := filepath.Glob(filepath.Join(rootfs(t), "usr/lib/*/qemu/*.so"))
	must(t, err)
	if len(modules) == 0 {
		t.Fatal("no modules of QEMU in the image")
	}
	for _, module := range modules {
		for _, unwanted := range []string{"ui-gtk", "ui-sdl", "ui-curses", "audio-", "chardev-baum", "chardev-spice"} {
			if strings.HasPrefix(filepath.Base(module), unwanted) {
				t.Errorf("the image has %s", module)
			}
		}
	}
}
