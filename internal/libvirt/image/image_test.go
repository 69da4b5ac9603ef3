package image

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// overlay is a new image in memory.
func overlay(t testing.TB, size int64, backing *Backing) []byte {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "o"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := WriteQCOW2(f, size, backing); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func inspect(content []byte) (Info, error) {
	return Inspect(bytes.NewReader(content), int64(len(content)))
}

func TestInspectSaysWhatAnImageIs(t *testing.T) {
	info, err := inspect(overlay(t, 10<<30, nil))
	if err != nil || info != (Info{QCOW2, 10 << 30}) {
		t.Fatalf("qcow2: %+v, %v", info, err)
	}
	info, err = inspect(make([]byte, 1000))
	if err != nil || info != (Info{Raw, 1024}) {
		t.Fatalf("raw: %+v, %v", info, err)
	}
}

// A user's image that is refused must be refused for the reason the user can act on.
func TestInspectRefuses(t *testing.T) {
	be := binary.BigEndian
	edit := func(change func(b []byte)) []byte {
		b := overlay(t, 1<<30, nil)
		change(b)
		return b
	}
	for name, tc := range map[string]struct {
		content []byte
		want    string
	}{
		"empty":               {nil, "empty"},
		"backing file":        {overlay(t, 1<<30, &Backing{"/etc/passwd", Raw}), "has a backing file"},
		"backing format only": {edit(func(b []byte) { be.PutUint32(b[112:], extBackingName) }), "names the format of a backing file"},
		"external data":       {edit(func(b []byte) { b[79] |= incompatExternalData }), "external data file"},
		"external data name":  {edit(func(b []byte) { be.PutUint32(b[112:], extExternalData) }), "external data file"},
		"encrypted":           {edit(func(b []byte) { b[35] = 1 }), "encrypted"},
		"luks":                {edit(func(b []byte) { be.PutUint32(b[112:], extEncryption) }), "encrypted"},
		"marked corrupt":      {edit(func(b []byte) { b[79] |= incompatCorrupt }), "marked corrupt"},
		"unknown feature":     {edit(func(b []byte) { b[72] = 0x80 }), "does not know"},
		"version 1":           {edit(func(b []byte) { b[7] = 1 }), "qcow version 1"},
		"absurd size":         {edit(func(b []byte) { be.PutUint64(b[24:], 1<<62) }), "virtual size"},
		"size 0":              {edit(func(b []byte) { be.PutUint64(b[24:], 0) }), "virtual size of 0"},
		"small table":         {edit(func(b []byte) { be.PutUint32(b[36:], 1) }), "first level table"},
		"table outside":       {edit(func(b []byte) { be.PutUint64(b[40:], 1<<40) }), "cut short"},
		"no counts":           {edit(func(b []byte) { be.PutUint32(b[56:], 0) }), "reference count table"},
		"cluster size":        {edit(func(b []byte) { b[23] = 60 }), "cluster size"},
		"snapshots":           {edit(func(b []byte) { be.PutUint32(b[60:], 1<<31) }), "snapshots"},
		"header length":       {edit(func(b []byte) { be.PutUint32(b[100:], 1<<31) }), "length"},
		"long extension": {edit(func(b []byte) {
			be.PutUint32(b[112:], 0x6803f857)
			be.PutUint32(b[116:], 1<<31)
		}), "header extension"},
		"cut header":  {overlay(t, 1<<30, nil)[:80], "cut short"},
		"cut file":    {overlay(t, 1<<30, nil)[:newCluster], "cut short"},
		"vmdk":        {append([]byte("KDMV"), make([]byte, 4096)...), "VMDK"},
		"gzip":        {append([]byte("\x1f\x8b\x08"), make([]byte, 4096)...), "gzip"},
		"magic alone": {[]byte(qcow2Magic), "cut short"},
	} {
		t.Run(name, func(t *testing.T) {
			// 1 GiB needs 2 entries of the first level.
			if _, err := inspect(tc.content); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got error %v, want one with %q", err, tc.want)
			}
		})
	}
}

// Our own images must be what QEMU's tools call sound.
func TestWriteQCOW2SatisfiesQEMU(t *testing.T) {
	dir := t.TempDir()
	base := filepath.Join(dir, "base.raw")
	if err := os.WriteFile(base, bytes.Repeat([]byte("x"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		size    int64
		backing *Backing
	}{
		"small": {1 << 20, nil}, "odd": {1<<20 + 1, nil}, "large": {MaxVirtualSize, nil}, "overlay": {1 << 20, &Backing{base, Raw}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name+".qcow2")
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := WriteQCOW2(f, tc.size, tc.backing); err != nil {
				t.Fatal(err)
			}
			_ = f.Close()
			if out, err := exec.Command("qemu-img", "check", "-f", "qcow2", path).CombinedOutput(); err != nil {
				t.Fatalf("qemu-img check: %v\n%s", err, out)
			}
			if tc.backing == nil {
				return
			}
			if out, err := exec.Command("qemu-img", "compare", "-f", "qcow2", "-F", "raw", path, base).CombinedOutput(); err != nil {
				t.Fatalf("the overlay differs from what is below it: %v\n%s", err, out)
			}
			if out, err := exec.Command("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 512k", "-c", "read -P 7 0 512k", path).CombinedOutput(); err != nil {
				t.Fatalf("qemu-io: %v\n%s", err, out)
			}
			if out, err := exec.Command("qemu-img", "check", "-f", "qcow2", path).CombinedOutput(); err != nil {
				t.Fatalf("qemu-img check after writing: %v\n%s", err, out)
			}
		})
	}
}

// What qemu-img makes is what users have.
func TestInspectReadsWhatQEMUWrites(t *testing.T) {
	for name, options := range map[string]string{
		"v2": "compat=0.10", "v3": "compat=1.1", "zstd": "compression_type=zstd", "extended": "extended_l2=on", "cluster": "cluster_size=2M",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "disk")
			if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, "3G").CombinedOutput(); err != nil {
				t.Fatalf("qemu-img: %v\n%s", err, out)
			}
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if info, err := inspect(content); err != nil || info != (Info{QCOW2, 3 << 30}) {
				t.Fatalf("%+v, %v", info, err)
			}
		})
	}
}

func FuzzInspect(f *testing.F) {
	valid := overlay(f, 1<<30, nil)
	f.Add(valid[:4096])
	f.Add(overlay(f, 1<<30, &Backing{"/x", QCOW2})[:4096])
	f.Add([]byte(qcow2Magic))
	f.Add([]byte("raw"))
	f.Fuzz(func(t *testing.T, head []byte) {
		content := append(append([]byte{}, head...), valid[min(len(head), len(valid)):]...)
		info, err := inspect(content)
		if err == nil && (info.VirtualSize <= 0 || info.VirtualSize > MaxVirtualSize) {
			t.Fatalf("accepted a size of %d", info.VirtualSize)
		}
		if err == nil && info.Format == QCOW2 && binary.BigEndian.Uint64(content[8:]) != 0 {
			t.Fatal("accepted a backing file")
		}
	})
}
