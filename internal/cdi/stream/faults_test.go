package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"virtctl/internal/cdi/image"
)

// tmpfs mounts a small filesystem, which the tests run as root for.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// ext2 mounts a small filesystem on which space cannot be reserved, only written.
func ext2(t *testing.T, size int) string {
	t.Helper()
	dev, dir := loopDevice(t, size), t.TempDir()
	if out, err := exec.Command("mkfs.ext2", "-qF", dev).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext2: %v: %s", err, out)
	}
	if err := unix.Mount(dev, dir, "ext2", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// loopDevice makes a block device full of old data, on a filesystem of its own.
func loopDevice(t *testing.T, size int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "backing")
	if err := os.WriteFile(path, bytes.Repeat([]byte("old data"), size/8), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", path).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v: %s", err, out)
	}
	dev := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "-d", dev).CombinedOutput(); err != nil {
			t.Errorf("losetup -d: %v: %s", err, out)
		}
	})
	return dev
}

// A block device with old data holds the disk and zeros, whatever was there.
func TestDevice(t *testing.T) {
	disk := pattern(51, 6<<20)
	for name, src := range map[string][]byte{"raw": disk, "qcow2": makeImage(t, disk, "-O", "qcow2"), "unknown size": disk} {
		for _, prealloc := range []bool{false, true} {
			t.Run(fmt.Sprint(name, prealloc), func(t *testing.T) {
				dev := loopDevice(t, 8<<20)
				opts := Options{Size: int64(len(src)), Preallocation: prealloc}
				want := disk
				if name == "unknown size" {
					opts.Size, want = 0, append(bytes.Clone(disk), make([]byte, 2<<20)...)
				}
				if _, err := Copy(context.Background(), bytes.NewReader(src), dev, opts); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, len(want))
				f, err := os.Open(dev)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if _, err := io.ReadFull(f, got); err != nil || !bytes.Equal(got, want) {
					t.Errorf("the device differs at %d (%v)", firstDiff(got, want), err)
				}
			})
		}
	}
}

// An image that does not fit is refused with the contract's words, before anything is overwritten.
func TestTooLarge(t *testing.T) {
	disk := pattern(52, 2<<20)
	for name, src := range map[string][]byte{
		"raw": disk, "qcow2": makeImage(t, disk, "-O", "qcow2"), "vdi": makeImage(t, disk, "-O", "vdi"),
		"vmdk": makeImage(t, disk, "-O", "vmdk", "-o", "subformat=streamOptimized"), "vhdx": makeImage(t, disk, "-O", "vhdx"),
	} {
		path := filepath.Join(t.TempDir(), "disk.img")
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Copy(context.Background(), bytes.NewReader(src), path, Options{Size: int64(len(src)), Available: 1 << 20})
		var large *TooLargeError
		want := "virtual image size 2097152 is larger than the reported available storage 1048576. A larger PVC is required"
		if !errors.As(err, &large) || err.Error() != want {
			t.Errorf("%s: %v", name, err)
		}
		checkDisk(t, path, []byte("precious"))
	}
}

// A full filesystem is said so, and with space the work goes on from its checkpoint.
func TestNoSpace(t *testing.T) {
	dir := tmpfs(t, "4m")
	disk := bytes.Repeat([]byte("full of data "), 6<<20/13)
	disk = disk[:len(disk)/512*512]
	path := filepath.Join(dir, "disk.img")
	ckpt := FileCheckpointer{Path: filepath.Join(t.TempDir(), "checkpoint")}
	opts := Options{Size: int64(len(disk)), Available: 1 << 30, Checkpointer: ckpt, CheckpointBytes: 1, CheckpointInterval: 1}
	_, err := Copy(context.Background(), bytes.NewReader(disk), path, opts)
	var full *NoSpaceError
	if !errors.As(err, &full) {
		t.Fatalf("Copy: %v", err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=16m"); err != nil {
		t.Fatal(err)
	}
	if opts.Resume, err = ckpt.Load(); err != nil {
		t.Fatal(err)
	}
	off := int64(0)
	if opts.Resume != nil {
		off = opts.Resume.Offset
	}
	res, err := Copy(context.Background(), bytes.NewReader(disk[off:]), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	checkDisk(t, path, disk)
	checkDigest(t, res, disk)
	opts = Options{Preallocation: true, Available: 1 << 30, Size: int64(len(disk))}
	if _, err := Copy(context.Background(), bytes.NewReader(disk), filepath.Join(tmpfs(t, "4m"), "disk.img"), opts); !errors.As(err, &full) {
		t.Errorf("preallocation without space: %v", err)
	}
}

// Zeros stay holes, data is written once, and preallocation takes all space.
func TestSparse(t *testing.T) {
	disk := make([]byte, 16<<20)
	copy(disk[4<<20:], bytes.Repeat([]byte("data"), 1<<20))
	for name, src := range map[string][]byte{"raw": disk, "qcow2": makeImage(t, disk, "-O", "qcow2", "-o", "cluster_size=2M")} {
		res, path := mustCopy(t, bytes.NewReader(src), Options{GrowTo: 20 << 20})
		if res.Written != 4<<20 {
			t.Errorf("%s: %d bytes were written for 4 MiB of data", name, res.Written)
		}
		if a := allocatedBytes(t, path); a > 5<<20 {
			t.Errorf("%s: %d bytes are stored", name, a)
		}
		checkDisk(t, path, append(bytes.Clone(disk), make([]byte, 4<<20)...))
		_, path = mustCopy(t, bytes.NewReader(src), Options{Preallocation: true, Size: int64(len(src))})
		if a := allocatedBytes(t, path); a < 16<<20 {
			t.Errorf("%s: %d bytes are reserved", name, a)
		}
	}
}

// Where space cannot be reserved, it is written: preallocation takes all of it whatever the image leaves out.
func TestPreallocationByWriting(t *testing.T) {
	disk := make([]byte, 4<<20)
	copy(disk[1<<20:], bytes.Repeat([]byte("data"), 1<<18))
	for name, src := range map[string][]byte{"raw": disk, "qcow2": makeImage(t, disk, "-O", "qcow2"), "vdi": makeImage(t, disk, "-O", "vdi")} {
		path := filepath.Join(ext2(t, 16<<20), "disk.img")
		if _, err := Copy(context.Background(), bytes.NewReader(src), path, Options{Preallocation: true, Size: int64(len(src)), GrowTo: 5 << 20}); err != nil {
			t.Fatal(err)
		}
		if a := allocatedBytes(t, path); a < 5<<20 {
			t.Errorf("%s: %d bytes are reserved", name, a)
		}
		checkDisk(t, path, append(bytes.Clone(disk), make([]byte, 1<<20)...))
	}
}

func allocatedBytes(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// Damaged, dangerous and lying sources end in an error of their own kind, and leave the old disk or say that it is gone.
func TestBadSources(t *testing.T) {
	disk := pattern(53, 2<<20)
	qcow2 := makeImage(t, disk, "-O", "qcow2")
	path := filepath.Join(t.TempDir(), "backed")
	qemuImg(t, "create", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw", path)
	backed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		src  []byte
		opts Options
		want any
	}{
		"backing file":             {backed, Options{}, new(*image.RefusedError)},
		"truncated":                {qcow2[:len(qcow2)/2], Options{}, new(*image.CorruptError)},
		"truncated, length known":  {qcow2[:len(qcow2)/2], Options{Size: int64(len(qcow2))}, new(*SourceError)},
		"shorter than it said":     {disk, Options{Size: int64(len(disk)) + 512}, new(*SourceError)},
		"longer than it said":      {disk, Options{Size: int64(len(disk)) - 512}, new(*SourceError)},
		"header only":              {qcow2[:104], Options{}, new(*image.CorruptError)},
		"two tables at one place":  {sharedTable(qcow2), Options{}, new(*image.CorruptError)},
		"an archive":               {tarball(t), Options{}, nil},
		"a checkpoint of nonsense": {disk, Options{Resume: &Checkpoint{Format: "nonsense"}}, nil},
		"a damaged checkpoint":     {disk, Options{Resume: &Checkpoint{Format: image.QCOW2, State: []byte(`{"qcow2":{},"regions":"gICA"}`)}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Copy(context.Background(), bytes.NewReader(c.src), filepath.Join(t.TempDir(), "disk.img"), c.opts)
			if err == nil || c.want != nil && !errors.As(err, c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// sharedTable makes an L1 entry point at the L1 table itself.
func sharedTable(img []byte) []byte {
	img = bytes.Clone(img)
	l1 := img[40:48]
	copy(img[int(l1[5])<<16|int(l1[6])<<8|int(l1[7]):], l1)
	return img
}

func tarball(t *testing.T) []byte {
	t.Helper()
	b, err := exec.Command("tar", "-c", "-C", "/etc", "hostname").Output()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A cancelled copy ends at once though its source says nothing any more, and can be resumed.
func TestCancel(t *testing.T) {
	disk := pattern(54, 3<<20)
	r, w := io.Pipe()
	ctx, cancel := context.WithCancelCause(context.Background())
	path := filepath.Join(t.TempDir(), "disk.img")
	var last Checkpoint
	done := make(chan error)
	go func() {
		_, err := Copy(ctx, r, path, Options{Size: int64(len(disk)), Checkpointer: CheckpointFunc(func(c Checkpoint) error { last = c; return nil })})
		done <- err
	}()
	if _, err := w.Write(disk[:2<<20]); err != nil {
		t.Fatal(err)
	}
	why := errors.New("the pod is told to stop")
	cancel(why)
	if err := <-done; !errors.Is(err, why) {
		t.Fatalf("Copy: %v", err)
	}
	w.Close()
	opts := Options{Size: int64(len(disk)), Resume: &last}
	if last.Hash == nil {
		opts.Resume = nil
	}
	if _, err := Copy(context.Background(), bytes.NewReader(disk[last.Offset:]), path, opts); err != nil {
		t.Fatal(err)
	}
	checkDisk(t, path, disk)
}

// FuzzCopy feeds hostile streams to every decoder: no panic, no disk larger than allowed.
func FuzzCopy(f *testing.F) {
	disk := pattern(55, 96<<10)
	for _, args := range formats() {
		if img := makeImage(f, disk, args...); len(img) < 1<<20 {
			f.Add(img)
		}
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(dir, fmt.Sprint(os.Getpid()))
		res, err := Copy(context.Background(), bytes.NewReader(b), path, Options{Available: 1 << 20})
		if err == nil && (res.VirtualSize > 1<<20 || res.Written > 1<<20 || res.SourceBytes != int64(len(b))) {
			t.Errorf("%+v", res)
		}
	})
}

// FuzzCheckpoint feeds damaged checkpoints: they come from a volume that its user can write.
func FuzzCheckpoint(f *testing.F) {
	f.Add([]byte(`{"qcow2":{"Size":1,"ClusterBits":16}}`), int64(5))
	f.Add([]byte(`{"blocks":{"Format":"vdi"}}`), int64(0))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, state []byte, off int64) {
		path := filepath.Join(dir, fmt.Sprint(os.Getpid()))
		c := &Checkpoint{Format: image.QCOW2, State: state, Offset: off, VirtualSize: 1 << 16}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, 1<<16); err != nil {
			t.Fatal(err)
		}
		_, _ = Copy(context.Background(), bytes.NewReader(make([]byte, 1<<16)), path, Options{Resume: c, Available: 1 << 20})
	})
}
