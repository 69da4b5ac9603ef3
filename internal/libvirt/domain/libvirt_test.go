//go:build libvirt

// These tests ask a real libvirt. They need virsh and a session daemon of libvirt 11 or newer; LIBVIRT_DEFAULT_URI says which:
//
//	LIBVIRT_DEFAULT_URI=qemu:///session go test -tags libvirt ./internal/libvirt/domain/
package domain

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// foreign cases need another architecture's QEMU or hardware virtualization.
var foreign = map[string]bool{"arm64": true, "s390x": true, "hyperv-passthrough": true, "cluster-settings": true}

func virsh(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("virsh", args...).CombinedOutput(); err != nil {
		t.Fatalf("virsh %v: %v\n%s", args, err, out)
	}
}

// What libvirt's schema and its own checks refuse never starts.
func TestLibvirtAccepts(t *testing.T) {
	for _, name := range caseNames(t) {
		if foreign[name] {
			continue
		}
		t.Run(name, func(t *testing.T) {
			vmi, in, _ := loadCase(t, name)
			in.Host.KVM = false
			doc, err := XML(vmi, in)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "domain.xml")
			if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
				t.Fatal(err)
			}
			virsh(t, "define", "--validate", file)
			virsh(t, "undefine", "--nvram", Name(vmi))
		})
	}
}
