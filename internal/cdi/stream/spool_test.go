package stream

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"virtctl/internal/cdi/image"
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

// An image that a server offers piecewise is converted without being stored.
func TestConvertNBD(t *testing.T) {
	disk := pattern(4, 3<<20)
	dir := t.TempDir()
	img, sock, path := filepath.Join(dir, "img"), filepath.Join(dir, "sock"), filepath.Join(dir, "disk.img")
	if err := os.WriteFile(img, makeImage(t, disk, "-O", "qcow2"), 0o600); err != nil {
		t.Fatal(err)
	}
	// It forks when it listens.
	out, err := exec.Command("qemu-nbd", "--fork", "--persistent", "--shared=4", "--read-only", "--pid-file="+filepath.Join(dir, "pid"),
		"-f", "raw", "-k", sock, img).CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-nbd: %v\n%s", err, out)
	}
	defer func() {
		pid, err := os.ReadFile(filepath.Join(dir, "pid"))
		if err == nil {
			err = exec.Command("kill", strings.TrimSpace(string(pid))).Run()
		}
		if err != nil {
			t.Error(err)
		}
	}()
	if _, err := ConvertNBD(context.Background(), image.QCOW2, sock, path, Options{}); err != nil {
		t.Fatal(err)
	}
	checkDisk(t, path, disk)
}

// Spooling goes on after a cut; when all has arrived, nothing is sent again.
func TestSpoolResume(t *testing.T) {
	src, disk := grown(t)
	dir := t.TempDir()
	scratch, path := filepath.Join(dir, "scratch"), filepath.Join(dir, "disk.img")
	ckpt := FileCheckpointer{Path: filepath.Join(dir, "checkpoint")}
	opts := Options{Size: int64(len(src)), Checkpointer: ckpt}
	_, err := Spool(context.Background(), &cutReader{r: bytes.NewReader(src), n: 3 << 20}, scratch, path, opts)
	var se *SourceError
	if !errors.As(err, &se) {
		t.Fatalf("Spool: %v", err)
	}
	for range 2 {
		c, err := ckpt.Load()
		if err != nil || !c.Spooling() || c.Offset < 2<<20 {
			t.Fatalf("%+v, %v", c, err)
		}
		opts.Resume = c
		res, err := Spool(context.Background(), bytes.NewReader(src[c.Offset:]), scratch, path, opts)
		if err != nil {
			t.Fatal(err)
		}
		checkDisk(t, path, disk)
		checkDigest(t, res, src)
	}
	if c, err := ckpt.Load(); err != nil || c.Offset != int64(len(src)) {
		t.Errorf("the last checkpoint is at %d of %d (%v)", c.Offset, len(src), err)
	}
}
