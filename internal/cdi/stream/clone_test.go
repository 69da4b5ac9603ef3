package stream

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/s2"
)

// A clone leaves holes out, arrives equal, and goes on after a cut with what the source makes again.
func TestSparseClone(t *testing.T) {
	disk := pattern(31, 12<<20+1536)
	in := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(in, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	var whole bytes.Buffer
	sent, err := CopyOut(context.Background(), in, &whole, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if whole.Len() > len(disk)*3/4 {
		t.Errorf("the stream has %d bytes for a disk of %d with holes", whole.Len(), len(disk))
	}
	checkDigest(t, sent, whole.Bytes())
	res, path := mustCopy(t, bytes.NewReader(whole.Bytes()), Options{Content: SparseClone})
	checkDisk(t, path, disk)
	checkDigest(t, res, whole.Bytes())
	for _, skip := range []int64{1, 500, sent.SourceBytes / 2, sent.SourceBytes} {
		var rest bytes.Buffer
		if _, err := CopyOut(context.Background(), in, &rest, skip, nil); err != nil || !bytes.Equal(rest.Bytes(), whole.Bytes()[skip:]) {
			t.Errorf("going on at %d: another stream (%v)", skip, err)
		}
	}
	_, err = Copy(context.Background(), bytes.NewReader(whole.Bytes()[:whole.Len()-1]), path, Options{Content: SparseClone})
	var se *SourceError
	if !errors.As(err, &se) {
		t.Errorf("a clone without its end: %v", err)
	}
}

// Upstream's host-assisted clone of a device is a raw disk in snappy frames, whatever the disk holds.
func TestBlockClone(t *testing.T) {
	disk := makeImage(t, pattern(32, 3<<20), "-O", "qcow2")
	disk = append(disk, make([]byte, (512-len(disk)%512)%512)...)
	var src bytes.Buffer
	z := s2.NewWriter(&src, s2.WriterSnappyCompat())
	if _, err := z.Write(disk); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	_, path := mustCopy(t, &src, Options{Content: BlockClone})
	checkDisk(t, path, disk)
}

// A filesystem's content arrives as it was, with holes, and tar itself agrees.
func TestFilesystemClone(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	disk := pattern(33, 4<<20)
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "a/b"), 0o755), os.WriteFile(filepath.Join(dir, "a/disk.img"), disk, 0o640),
		os.Symlink("../disk.img", filepath.Join(dir, "a/b/link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var src bytes.Buffer
	sent, err := PackDirectory(context.Background(), dir, &src, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := Extract(context.Background(), bytes.NewReader(src.Bytes()), out, Options{Content: FilesystemClone})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(res.Digest, sent.Digest) {
		t.Error("the digests differ")
	}
	checkDisk(t, filepath.Join(out, "a/b/link"), disk)
	if b, err := exec.Command("diff", "-r", "--no-dereference", dir, out).CombinedOutput(); err != nil {
		t.Errorf("diff: %v\n%s", err, b)
	}
}

// An archive that GNU tar made, sparse and compressed, is unpacked.
func TestExtractArchive(t *testing.T) {
	dir := t.TempDir()
	disk := pattern(34, 4<<20)
	in := filepath.Join(dir, "disk.img")
	if err := os.WriteFile(in, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-c"}, {"-cS"}, {"-cz"}, {"-cJ"}, {"-cS", "--format=posix"}} {
		src, err := exec.Command("tar", append(args, "-C", dir, "disk.img")...).Output()
		if err != nil {
			t.Fatal(err)
		}
		out := t.TempDir()
		res, err := Extract(context.Background(), bytes.NewReader(src), out, Options{Content: Archive, Size: int64(len(src))})
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		checkDisk(t, filepath.Join(out, "disk.img"), disk)
		checkDigest(t, res, src)
	}
}

// archive makes a hostile archive.
func archive(t *testing.T, hs ...*tar.Header) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range hs {
		h.Mode = 0o4777
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(w, zeroReader{}, h.Size); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	return &b
}

// No member of an archive gets, or leads, out of the volume.
func TestExtractRefuses(t *testing.T) {
	link := func(name, to string) *tar.Header {
		return &tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeSymlink}
	}
	hard := func(name, to string) *tar.Header {
		return &tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeLink}
	}
	for name, hs := range map[string][]*tar.Header{
		"dots":           {{Name: "../x", Typeflag: tar.TypeReg}},
		"absolute link":  {link("l", "/etc/passwd")},
		"link out":       {link("a/l", "../../x")},
		"through a link": {link("s", "."), {Name: "s/x", Typeflag: tar.TypeReg}},
		"late dots":      {link("s", "."), link("l", "s/s/../../x")},
		"moved link":     {link("a/b/l", "../../x"), hard("l", "a/b/l")},
		"hard link out":  {hard("l", "../x")},
		"device":         {{Name: "d", Typeflag: tar.TypeBlock}},
		"pipe":           {{Name: "p", Typeflag: tar.TypeFifo}},
		"large":          {{Name: "big", Typeflag: tar.TypeReg, Size: 2 << 20}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := Extract(context.Background(), archive(t, hs...), filepath.Join(dir), Options{Content: Archive, Available: 1 << 20})
			var entry *EntryError
			var large *TooLargeError
			if !errors.As(err, &entry) && !errors.As(err, &large) {
				t.Errorf("Extract: %v", err)
			}
		})
	}
	dir := t.TempDir()
	if _, err := Extract(context.Background(), archive(t, &tar.Header{Name: "/abs/s", Typeflag: tar.TypeReg}), dir, Options{}); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(filepath.Join(dir, "abs/s"))
	if err != nil || st.Mode()&os.ModeSetuid != 0 {
		t.Errorf("an absolute name: %v %v", st, err)
	}
}
