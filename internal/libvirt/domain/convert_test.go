package domain

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/wire"
)

// golden compares with a file, or writes it when UPDATE is set.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; run UPDATE=1 go test", err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("%s differs, look at it with UPDATE=1 go test and git diff; got:\n%s", file, got)
	}
}

// caseNames lists the cases of testdata.
func caseNames(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "*.vmi.yaml"))
	if err != nil || len(files) < 40 {
		t.Fatalf("cases: %d, %v", len(files), err)
	}
	names := make([]string, len(files))
	for i, file := range files {
		names[i] = strings.TrimSuffix(filepath.Base(file), ".vmi.yaml")
	}
	return names
}

// loadCase reads a case. Facts that its file does not give are those an ordinary pod on a node with KVM would have.
func loadCase(t testing.TB, name string) (*v1.VirtualMachineInstance, Input, []wire.DiskSpec) {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join("testdata", name+".vmi.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	vmi := &v1.VirtualMachineInstance{}
	if err := yaml.UnmarshalStrict(doc, vmi); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	in := Input{Host: Host{KVM: true}}
	facts, err := os.ReadFile(filepath.Join("testdata", name+".facts.yaml"))
	if err == nil {
		if err := yaml.UnmarshalStrict(facts, &in); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	} else if !os.IsNotExist(err) {
		t.Fatal(err)
	}
	specs, err := Disks(vmi, DiskOptions{AllowHostDisk: true})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if in.Disks == nil {
		in.Disks = prepared(specs)
	}
	if in.Interfaces == nil {
		in.Interfaces = map[string]Interface{}
		for i, iface := range vmi.Spec.Domain.Devices.Interfaces {
			in.Interfaces[iface.Name] = Interface{Tap: fmt.Sprintf("tap%d", i), MAC: fmt.Sprintf("02:00:00:00:00:%02x", i+1)}
		}
	}
	return vmi, in, specs
}

// prepared is what the launcher says about specs when their sources are ordinary raw images on a disk with direct I/O.
func prepared(specs []wire.DiskSpec) map[string]wire.DiskFacts {
	facts := map[string]wire.DiskFacts{}
	for _, spec := range specs {
		fact := wire.DiskFacts{Name: spec.Name, Path: spec.Source, Format: "raw", DirectIO: true, Preallocated: spec.Preallocate}
		switch spec.Kind {
		case wire.DiskImage:
			fact.Path, fact.Format = layout.Disk(spec.Name), "qcow2"
			fact.Backing, fact.BackingFormat = filepath.Join(spec.Source, "disk", "image.qcow2"), "qcow2"
		case wire.DiskOverlay:
			fact.Path, fact.Format = layout.Disk(spec.Name), "qcow2"
			fact.Backing, fact.BackingFormat, fact.BackingBlock = spec.Source, "raw", strings.HasPrefix(spec.Source, "/dev/")
		case wire.DiskEmpty:
			fact.Path, fact.Format = layout.Disk(spec.Name), "qcow2"
		case wire.DiskISO:
			fact.Path, fact.ReadOnly = spec.Image, true
			if fact.Path == "" {
				fact.Path = layout.ISO(spec.Name)
			}
		case wire.DiskBlock:
			fact.Block = true
		}
		facts[spec.Name] = fact
	}
	return facts
}

// A guest whose XML changes unasked finds other hardware after a restart or cannot be migrated any more.
func TestConvert(t *testing.T) {
	for _, name := range caseNames(t) {
		t.Run(name, func(t *testing.T) {
			vmi, in, specs := loadCase(t, name)
			before := vmi.DeepCopy()
			doc, err := XML(vmi, in)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name+".xml", []byte(doc+"\n"))
			if again, err := XML(before, in); err != nil || again != doc {
				t.Errorf("converting again gives another document (%v):\n%s", err, again)
			}
			if len(specs) > 0 {
				out, err := yaml.Marshal(specs)
				if err != nil {
					t.Fatal(err)
				}
				golden(t, name+".disks.yaml", out)
			}
		})
	}
}
