package domain

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// retargetSource is what libvirt 11.3 says of the running domain of case plain-tcg.
func retargetSource(t *testing.T) string {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join("testdata", "retarget.source.xml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(doc)
}

// If the target's document shows the guest anything else than it has, libvirt refuses the migration.
func TestRetarget(t *testing.T) {
	vmi, in, _ := loadCase(t, "plain-tcg")
	in.Interfaces["default"] = Interface{Tap: "tap9", MAC: "02:00:00:00:00:77"}
	disk := in.Disks["root"]
	disk.Path, disk.DirectIO = "/elsewhere/root.qcow2", false
	in.Disks["root"] = disk
	doc, err := Retarget(retargetSource(t), vmi, in)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "retarget.xml", []byte(doc+"\n"))
	for _, want := range []string{`dev="tap9"`, `file="/elsewhere/root.qcow2"`, `cache="writethrough"`, `<mac address="02:00:00:00:00:01">`} {
		if !strings.Contains(doc, want) {
			t.Errorf("the document lacks %s", want)
		}
	}
}

func TestRetargetRefuses(t *testing.T) {
	tests := map[string]struct {
		change func(source *string, in *Input)
		want   string
	}{
		"not a document":     {func(s *string, _ *Input) { *s = "<domain" }, "read the running domain"},
		"no devices":         {func(s *string, _ *Input) { *s = "<domain type='qemu'/>" }, "has no devices"},
		"other acceleration": {func(_ *string, in *Input) { in.Host.KVM = true }, "cannot move to a kvm node"},
		"unknown disk": {
			func(s *string, _ *Input) { *s = strings.ReplaceAll(*s, "ua-root", "ua-other") },
			"disk vda of the running guest has not been prepared",
		},
		"unknown interface": {
			func(s *string, _ *Input) { *s = strings.ReplaceAll(*s, "ua-default", "ua-other") },
			`interface "ua-other" of the running guest has no link`,
		},
		"host device": {func(s *string, _ *Input) {
			*s = strings.Replace(*s, "</devices>", `<hostdev mode='subsystem' type='mdev' model='vfio-pci'>
				<source><address uuid='2f3f9b2a-5a0a-4f7e-8c57-1f1f1f1f1f1f'/></source></hostdev></devices>`, 1)
		}, "cannot migrate"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			vmi, in, _ := loadCase(t, "plain-tcg")
			source := retargetSource(t)
			test.change(&source, &in)
			if _, err := Retarget(source, vmi, in); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}
