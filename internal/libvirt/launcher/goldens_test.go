//go:build libvirt

package launcher_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"virtctl/internal/libvirt/wire"
)

// emulated turns a golden document of internal/libvirt/domain into one that starts anywhere: emulation instead of KVM, no disks and
// tap devices, whose sources do not exist here.
func emulated(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("../domain/testdata", name+".xml"))
	must(t, err)
	xml := string(content)
	for _, element := range []string{"disk", "interface", "hostdev", "vsock"} {
		xml = regexp.MustCompile(`(?s)\s*<`+element+` .*?</`+element+`>`).ReplaceAllString(xml, "")
	}
	xml = regexp.MustCompile(`(?s)<cpu mode="host-(model|passthrough)"(.*?)>`).ReplaceAllString(xml, `<cpu mode="maximum">`)
	return strings.Replace(xml, `<domain type="kvm"`, `<domain type="qemu"`, 1)
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
