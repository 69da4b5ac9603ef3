package image

import (
	"bytes"
	"errors"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const testSize = 3<<20 + 512

// qemuImg runs the real qemu-img in dir.
func qemuImg(t testing.TB, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("qemu-img", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %v: %v\n%s", args, err, out)
	}
}

// diskDir has a raw disk of testSize with some data in it.
func diskDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	disk := make([]byte, testSize)
	rand.New(rand.NewSource(1)).Read(disk[64<<10 : 300<<10])
	if err := os.WriteFile(filepath.Join(dir, "raw"), disk, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func inspect(t testing.TB, path string) (Info, error) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return Inspect(bytes.NewReader(b), int64(len(b)))
}

// What qemu-img writes is recognised, with the size that the guest will see.
func TestInspect(t *testing.T) {
	dir := diskDir(t)
	for _, c := range []struct {
		name   string
		args   []string
		format Format
		sub    string
	}{
		{"qcow2", []string{"-O", "qcow2"}, QCOW2, "v3"},
		{"qcow2v2", []string{"-O", "qcow2", "-o", "compat=0.10"}, QCOW2, "v2"},
		{"qcow2zstd", []string{"-c", "-O", "qcow2", "-o", "compression_type=zstd,extended_l2=on"}, QCOW2, "v3"},
		{"vmdk", []string{"-O", "vmdk"}, VMDK, "monolithicSparse"},
		{"vmdkstream", []string{"-O", "vmdk", "-o", "subformat=streamOptimized"}, VMDK, "streamOptimized"},
		{"vdi", []string{"-O", "vdi"}, VDI, "dynamic"},
		{"vdistatic", []string{"-O", "vdi", "-o", "static=on"}, VDI, "static"},
		{"vpc", []string{"-O", "vpc", "-o", "force_size"}, VPC, "dynamic"},
		{"vpcfixed", []string{"-O", "vpc", "-o", "force_size,subformat=fixed"}, VPC, "fixed"},
		{"vhdx", []string{"-O", "vhdx"}, VHDX, "dynamic"},
		{"raw2", []string{"-O", "raw"}, Raw, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			qemuImg(t, dir, append(append([]string{"convert", "-f", "raw"}, c.args...), "raw", c.name)...)
			path := filepath.Join(dir, c.name)
			info, err := inspect(t, path)
			if err != nil {
				t.Fatal(err)
			}
			if info.Format != c.format || info.Subformat != c.sub || info.Compression != None {
				t.Errorf("got %+v", info)
			}
			if want := int64(testSize); info.VirtualSize != want {
				t.Errorf("virtual size %d, want %d", info.VirtualSize, want)
			}
			wrapped(t, path, c.format)
		})
	}
}

// wrapped checks that a compressed image is recognised too; of a raw one the size stays unknown.
func wrapped(t *testing.T, path string, format Format) {
	t.Helper()
	for tool, comp := range map[string]Compression{"gzip": GZ, "xz": XZ} {
		b, err := exec.Command(tool, "-1", "-c", path).Output()
		if err != nil {
			t.Fatal(err)
		}
		info, err := Inspect(bytes.NewReader(b), int64(len(b)))
		if err != nil || info.Compression != comp || info.SizeHint <= 0 {
			t.Errorf("%s: %+v, %v", tool, info, err)
		}
		if format == Raw && info.VirtualSize != Unknown || info.Format != format && info.Format != Raw {
			t.Errorf("%s: %+v", tool, info)
		}
		if format != Raw && info.Format == format && info.VirtualSize != testSize {
			t.Errorf("%s: virtual size %d", tool, info.VirtualSize)
		}
	}
}

// Images that would reach for other files, or that nobody here can read, are refused by name.
func TestRefused(t *testing.T) {
	dir := diskDir(t)
	qemuImg(t, dir, "create", "-f", "qcow2", "-b", "raw", "-F", "raw", "backed")
	qemuImg(t, dir, "create", "-f", "qcow2", "-o", "data_file=data,data_file_raw=on", "external", "1M")
	qemuImg(t, dir, "create", "-f", "qcow2", "--object", "secret,id=s,data=x", "-o", "encrypt.format=luks,encrypt.key-secret=s", "locked", "1M")
	qemuImg(t, dir, "create", "-f", "vmdk", "-o", "subformat=monolithicFlat", "flat", "1M")
	qemuImg(t, dir, "create", "-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", "split", "1M")
	qemuImg(t, dir, "create", "-f", "vmdk", "parent.vmdk", "1M")
	qemuImg(t, dir, "create", "-f", "vmdk", "-b", "parent.vmdk", "-F", "vmdk", "child")
	for name, want := range map[string]Reason{
		"backed": BackingFile, "external": DataFile, "locked": Encrypted, "flat": Extents, "split": Extents, "child": BackingFile,
	} {
		_, err := inspect(t, filepath.Join(dir, name))
		var r *RefusedError
		if !errors.As(err, &r) || r.Reason != want {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want == BackingFile && r.Detail == "" || !strings.Contains(err.Error(), "qemu-img") {
			t.Errorf("%s: the message helps nobody: %v", name, err)
		}
	}
}

// A head alone is enough to describe an image, as when it comes from a pipe.
func TestInspectHead(t *testing.T) {
	dir := diskDir(t)
	qemuImg(t, dir, "convert", "-f", "raw", "-O", "qcow2", "raw", "img")
	b, err := os.ReadFile(filepath.Join(dir, "img"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := Inspect(bytes.NewReader(b[:HeadSize]), Unknown)
	if err != nil || info.Format != QCOW2 || info.VirtualSize != testSize {
		t.Errorf("%+v, %v", info, err)
	}
	if _, err := Inspect(bytes.NewReader(b[:50]), 50); err == nil {
		t.Error("half a header passed")
	}
}

func TestISO(t *testing.T) {
	b := make([]byte, 64<<10)
	copy(b[0x8001:], "CD001")
	info, err := Inspect(bytes.NewReader(b), int64(len(b)))
	if err != nil || info.Format != ISO || info.VirtualSize != 64<<10 {
		t.Errorf("%+v, %v", info, err)
	}
}

func seeds(f *testing.F) {
	dir := diskDir(f)
	for _, format := range []string{"qcow2", "vmdk", "vdi", "vpc", "vhdx"} {
		qemuImg(f, dir, "convert", "-f", "raw", "-O", format, "raw", format)
		b, err := os.ReadFile(filepath.Join(dir, format))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:min(len(b), 4<<10)])
	}
}

// checkInfo is what holds for any input.
func checkInfo(t *testing.T, info Info, err error) {
	if err == nil && (info.VirtualSize < Unknown || info.VirtualSize > maxVirtualSize || info.ClusterSize < 0) {
		t.Errorf("%+v", info)
	}
	if err != nil && len(err.Error()) > 2000 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
}

func FuzzInspect(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := Inspect(bytes.NewReader(b), int64(len(b)))
		checkInfo(t, info, err)
		info, err = Inspect(bytes.NewReader(b), Unknown)
		checkInfo(t, info, err)
	})
}

func FuzzQCOW2(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := ParseQCOW2(b); err == nil && (h.Size < 0 || h.L2Coverage() <= 0 || h.L1Offset < 0) {
			t.Errorf("%+v", h)
		}
	})
}

func FuzzVMDK(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := ParseVMDK(b); err == nil && (h.Size < 0 || h.GrainSize <= 0) {
			t.Errorf("%+v", h)
		}
		_, _ = CheckVMDKDescriptor(b)
	})
}

func FuzzVDI(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := ParseVDI(b); err == nil && (h.Size < 0 || h.MapOffset < 0) {
			t.Errorf("%+v", h)
		}
	})
}

func FuzzVPC(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseVPCFooter(b)
		if err == nil && (h.Size < 0 || h.DynamicOffset < 0) {
			t.Errorf("%+v", h)
		}
		_, _ = ParseVPCDynamic(b, h)
	})
}

func FuzzVHDX(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		area := make([]byte, VHDXFixedArea)
		copy(area, "vhdxfile")
		copy(area[vhdxHeader1:], "head")
		copy(area[vhdxRegions:], b)
		if l, err := ParseVHDXRegions(area); err == nil && (l.BATOffset <= 0 || l.MetadataOffset <= 0) {
			t.Errorf("%+v", l)
		}
		meta := make([]byte, 128<<10)
		copy(meta, "metadata")
		copy(meta[8:], b)
		l := VHDXLayout{BATBytes: 1 << 20}
		if err := l.ReadMetadata(meta); err == nil && (l.Size <= 0 || l.BlockSize <= 0) {
			t.Errorf("%+v", l)
		}
	})
}
