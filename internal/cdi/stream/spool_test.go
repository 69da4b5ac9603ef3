package stream

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// qemuImg runs the real qemu-img.
func qemuImg(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %v: %v\n%s", args, err, out)
	}
}

// makeImage has qemu-img write disk in a format and gives the file's bytes.
func makeImage(t testing.TB, disk []byte, args ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	if err := os.WriteFile(in, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	qemuImg(t, append(append([]string{"convert", "-f", "raw"}, args...), in, out)...)
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What cannot be decoded in order is stored whole and converted, with the digest of what came.
func TestSpool(t *testing.T) {
	disk := pattern(3, 5<<20)
	for _, format := range []string{"vhdx", "qcow2", "vdi", "raw"} {
		src := makeImage(t, disk, "-O", format)
		dir := t.TempDir()
		path := filepath.Join(dir, "disk.img")
		res, err := Spool(context.Background(), bytes.NewReader(src), filepath.Join(dir, "scratch"), path, Options{Size: int64(len(src))})
		if err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		checkDisk(t, path, disk)
		checkDigest(t, res, src)
	}
}
