package stream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"

	"virtctl/internal/cdi/image"
)

// compress runs a real tool over b.
func compress(t testing.TB, b []byte, tool string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(tool, append(args, "-c")...)
	cmd.Stdin = bytes.NewReader(b)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	return out
}

func zst(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out)
	if err == nil {
		_, err = w.Write(b)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Compressed images are unpacked as they come.
func TestCompressed(t *testing.T) {
	disk := pattern(21, 3<<20)
	qcow2 := makeImage(t, disk, "-O", "qcow2")
	for name, src := range map[string][]byte{
		"raw.gz": compress(t, disk, "gzip", "-1"), "raw.xz": compress(t, disk, "xz", "-0"), "raw.zst": zst(t, disk),
		"qcow2.gz": compress(t, qcow2, "gzip", "-1"), "qcow2.xz": compress(t, qcow2, "xz", "-0"), "qcow2.zst": zst(t, qcow2),
		"xz of several blocks": compress(t, disk, "xz", "-0", "--block-size=1MiB"),
		"gz of two members":    append(compress(t, disk[:2<<20], "gzip", "-1"), compress(t, disk[2<<20:], "gzip", "-1")...),
		"xz of two streams":    append(compress(t, disk[:2<<20], "xz", "-0"), compress(t, disk[2<<20:], "xz", "-0")...),
	} {
		t.Run(name, func(t *testing.T) {
			res, path := mustCopy(t, bytes.NewReader(src), Options{Size: int64(len(src))})
			checkDisk(t, path, disk)
			checkDigest(t, res, src)
			// A cut is the source's fault, not the file's.
			_, err := Copy(context.Background(), &cutReader{r: bytes.NewReader(src), n: int64(len(src)) / 2}, path, Options{})
			var se *SourceError
			if !errors.As(err, &se) || !errors.Is(err, errCut) {
				t.Errorf("a cut source: %v", err)
			}
			// A file that is cut short is damaged.
			_, err = Copy(context.Background(), bytes.NewReader(src[:len(src)/2]), path, Options{})
			var ce *image.CompressionError
			if !errors.As(err, &ce) {
				t.Errorf("half a file: %v", err)
			}
		})
	}
}

// grown is an image whose first table moved to its end when it was made larger.
func grown(t *testing.T) (img, disk []byte) {
	t.Helper()
	disk = pattern(22, 6<<20)
	rand.New(rand.NewSource(1)).Read(disk[:5<<20])
	path := filepath.Join(t.TempDir(), "img")
	if err := os.WriteFile(path, makeImage(t, disk, "-O", "qcow2", "-o", "cluster_size=512"), 0o600); err != nil {
		t.Fatal(err)
	}
	qemuImg(t, "resize", "-f", "qcow2", path, "64M")
	img, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return img, append(disk, make([]byte, 58<<20)...)
}

// What turns out to need scratch space is handed over whole, also from under a compression.
func TestNeedsSpool(t *testing.T) {
	img, disk := grown(t)
	for name, src := range map[string][]byte{"plain": img, "gz": compress(t, img, "gzip", "-1"), "xz": compress(t, img, "xz", "-0"), "zst": zst(t, img)} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "disk.img")
			_, err := Copy(context.Background(), bytes.NewReader(src), path, Options{Size: int64(len(src))})
			var ns *NeedsSpoolError
			if !errors.As(err, &ns) || ns.Rest == nil {
				t.Fatalf("Copy: %v", err)
			}
			res, err := Spool(context.Background(), ns.Rest, path+".scratch", path, Options{Size: int64(len(src))})
			if err != nil {
				t.Fatal(err)
			}
			checkDisk(t, path, disk)
			checkDigest(t, res, src)
		})
	}
}

// zeroReader is a compression bomb's inside.
type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A small file cannot become a disk that is larger than its target.
func TestBomb(t *testing.T) {
	var bomb bytes.Buffer
	w, err := zstd.NewWriter(&bomb)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(w, zeroReader{}, 1<<30); err != nil {
		t.Fatal(err)
	}
	w.Close()
	_, err = Copy(context.Background(), &bomb, filepath.Join(t.TempDir(), "disk.img"), Options{Available: 64 << 20})
	var big *TooLargeError
	if !errors.As(err, &big) {
		t.Fatalf("a bomb: %v", err)
	}
}
