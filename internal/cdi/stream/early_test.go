package stream

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// used is the image of a machine that gave space back and used it again: data lies far before the table that maps it.
func used(t *testing.T) (img, disk []byte) {
	t.Helper()
	dir := t.TempDir()
	path, raw := filepath.Join(dir, "img"), filepath.Join(dir, "raw")
	qemuImg(t, "create", "-f", "qcow2", "-o", "cluster_size=4k", path, "32M")
	cmd := exec.Command("qemu-io", "-f", "qcow2", "-d", "unmap")
	for _, c := range []string{"write -P 1 0 12M", "write -P 2 20M 4k", "discard 2M 9M", "write -P 3 20M 1M", "write -P 4 22M 6M"} {
		cmd.Args = append(cmd.Args, "-c", c)
	}
	cmd.Args = append(cmd.Args, path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("qemu-io: %v\n%s", err, out)
	}
	// The table that maps the reused part is moved behind it, as a defragmenting tool or another writer may do.
	qemuImg(t, "convert", "-f", "qcow2", "-O", "raw", path, raw)
	img, err := os.ReadFile(path)
	if err == nil {
		disk, err = os.ReadFile(raw)
	}
	if err != nil {
		t.Fatal(err)
	}
	return moveTables(img), disk
}

// moveTables moves every L2 table of an image with 4 KiB clusters to its end.
func moveTables(img []byte) []byte {
	l1 := int(img[47]) | int(img[46])<<8 | int(img[45])<<16
	n := int(img[39]) | int(img[38])<<8
	for i := range n {
		e := img[l1+8*i : l1+8*i+8]
		off := int(e[7]) | int(e[6])<<8 | int(e[5])<<16 | int(e[4])<<24
		if off == 0 {
			continue
		}
		img = append(img, make([]byte, -len(img)&4095)...)
		to := len(img)
		img = append(img, img[off:off+4096]...)
		e = img[l1+8*i : l1+8*i+8]
		e[7], e[6], e[5], e[4] = byte(to), byte(to>>8), byte(to>>16), byte(to>>24)
	}
	return img
}

// Data far before its table is put aside in a file beside the disk, also across a cut, and the file is gone at the end.
func TestEarlyData(t *testing.T) {
	img, disk := used(t)
	n := int64(len(img))
	res, path, _ := resumeAll(t, img, []int64{n / 4, n / 2, n * 3 / 4, n - 9000, n - 5000})
	checkDisk(t, path, disk)
	checkDigest(t, res, img)
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// Where nothing can be put aside, the need for scratch space is said, not a damaged disk made.
func TestEarlyDataDropped(t *testing.T) {
	img, _ := used(t)
	_, err := Copy(context.Background(), bytes.NewReader(img), filepath.Join(t.TempDir(), "disk.img"), Options{SpillDir: "/nowhere"})
	var ns *NeedsSpoolError
	if !errors.As(err, &ns) || ns.Rest != nil {
		t.Errorf("Copy: %v", err)
	}
}
