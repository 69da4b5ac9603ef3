//go:build libvirt

package launcher_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"virtctl/internal/libvirt/probe"
	"virtctl/internal/libvirt/wire"
)

// What the node's probe finds is what a launcher on that node believes, and its verdict about KVM has a reason.
func TestProbeServesLaunchers(t *testing.T) {
	p := newPod(t, podOptions{privileged: true, args: []string{"probe", "--out", "/run/kubevirt-private/out", "--kvm-kernel", "/run/boot/vmlinuz"}})
	began := time.Now()
	if code := p.wait(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	t.Logf("probe took %s", time.Since(began))
	out := filepath.Join(p.dir, "run/kubevirt-private/out")
	raw, err := os.ReadFile(filepath.Join(out, probe.ResultFile))
	must(t, err)
	var result probe.Result
	must(t, json.Unmarshal(raw, &result))
	if result.KVM == (result.Reason != "") || !slices.Contains(result.Machines, "q35") || !slices.Contains(result.CPUModels, "qemu64") || result.QEMUVersion == "" {
		t.Fatalf("%+v", result)
	}
	t.Logf("KVM %v: %s", result.KVM, result.Reason)
	cache := map[string][]byte{}
	entries, err := os.ReadDir(filepath.Join(out, probe.CacheDir("tcg")))
	must(t, err)
	for _, e := range entries {
		cache[e.Name()], err = os.ReadFile(filepath.Join(out, probe.CacheDir("tcg"), e.Name()))
		must(t, err)
	}
	launcher := newPod(t, podOptions{})
	_, err = launcher.Prepare(launcher.context(), wire.PrepareRequest{CapabilitiesCache: cache})
	must(t, err)
	_, err = launcher.Start(launcher.context(), wire.StartRequest{XML: domainXML("")})
	must(t, err)
	after := launcher.capabilitiesCache()
	if len(after) != len(cache) {
		t.Fatalf("%d files in libvirt's cache, %d in the probe's", len(after), len(cache))
	}
	for name := range cache {
		if string(after[name]) != string(cache[name]) {
			t.Error("libvirt looked at QEMU again: it did not believe the probe")
		}
	}
	if left, err := filepath.Glob(filepath.Join(out, ".w*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// The tiny guest really runs: with emulation, because KVM may not be there.
func TestTinyGuestRuns(t *testing.T) {
	dir := t.TempDir()
	initrd := filepath.Join(dir, "initrd")
	must(t, os.WriteFile(initrd, probe.TinyInitrd(), 0o644))
	console := newOutput()
	cmd := exec.Command("qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "max", "-m", "160", "-nodefaults", "-display", "none", "-no-reboot",
		"-serial", "stdio", "-kernel", kernel(t), "-initrd", initrd, "-append", "console=ttyS0 panic=-1 quiet")
	cmd.Stdout = console
	must(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	console.await(t, probe.Marker)
}
