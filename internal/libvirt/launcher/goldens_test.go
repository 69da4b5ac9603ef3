//go:build libvirt

package launcher_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/process"
	"virtctl/internal/libvirt/wire"
)

// golden is a golden document of internal/libvirt/domain, with emulation instead of KVM.
func golden(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("../domain/testdata", name+".xml"))
	must(t, err)
	return strings.Replace(string(content), `<domain type="kvm"`, `<domain type="qemu"`, 1)
}

// emulated turns a golden document into one that starts anywhere: no disks and tap devices, whose sources do not exist here.
func emulated(t *testing.T, name string) string {
	t.Helper()
	xml := golden(t, name)
	for _, element := range []string{"disk", "interface", "hostdev", "vsock"} {
		xml = regexp.MustCompile(`(?s)\s*<`+element+` .*?</`+element+`>`).ReplaceAllString(xml, "")
	}
	return regexp.MustCompile(`(?s)<cpu mode="host-(model|passthrough)"(.*?)>`).ReplaceAllString(xml, `<cpu mode="maximum">`)
}

// foreign documents need another architecture's QEMU or hardware virtualization.
var foreign = map[string]bool{"arm64": true, "s390x": true, "hyperv-passthrough": true, "cluster-settings": true}

// What libvirt's schema and its own checks refuse never starts: every document virt-handler writes passes those of the launcher image.
func TestLibvirtAccepts(t *testing.T) {
	p := newPod(t, podOptions{})
	_, err := p.Prepare(p.context(), wire.PrepareRequest{})
	must(t, err)
	socket := p.path(layout.RuntimeDir) + "/libvirt/libvirt-sock"
	must(t, process.WaitForPath(p.context(), socket))
	virsh := func(t *testing.T, args ...string) {
		t.Helper()
		args = append([]string{"-c", "qemu+unix:///session?socket=" + socket}, args...)
		if out, err := exec.CommandContext(p.context(), "virsh", args...).CombinedOutput(); err != nil {
			t.Errorf("virsh %v: %v\n%s", args, err, out)
		}
	}
	documents, err := filepath.Glob("../domain/testdata/*.vmi.yaml")
	must(t, err)
	if len(documents) < 40 {
		t.Fatalf("%d documents", len(documents))
	}
	for _, document := range documents {
		name := strings.TrimSuffix(filepath.Base(document), ".vmi.yaml")
		if foreign[name] {
			continue
		}
		t.Run(name, func(t *testing.T) {
			file, xml := filepath.Join(t.TempDir(), "domain.xml"), golden(t, name)
			must(t, os.WriteFile(file, []byte(xml), 0o600))
			virsh(t, "define", "--validate", file)
			virsh(t, "undefine", "--nvram", regexp.MustCompile("<name>(.*?)</name>").FindStringSubmatch(xml)[1])
		})
	}
}

// What virt-handler writes, this launcher's libvirt and QEMU run: firmware, TPM, input, clock and the rest.
func TestTheHandlersDomainsRun(t *testing.T) {
	for _, name := range []string{
		"plain-tcg", "efi", "efi-secureboot", "tpm", "tpm-persistent", "inputs", "clock-timezone", "smbios", "memory-hotplug", "cpu-hotplug", "iothreads-shared", "bios-serial", "autoattach-none", "usbredir",
	} {
		if _, err := os.Stat(filepath.Join("../domain/testdata", name+".xml")); err != nil {
			t.Errorf("there is no golden document %s", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			p := newPod(t, podOptions{})
			_, err := p.Prepare(p.context(), wire.PrepareRequest{})
			must(t, err)
			state, err := p.Start(p.context(), wire.StartRequest{XML: emulated(t, name)})
			if err != nil || state.State != wire.StateRunning {
				t.Fatalf("%+v, %v", state, err)
			}
		})
	}
}
