package stream

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"testing"

	"virtctl/internal/cdi/image"
)

// pattern is a disk with data, zeros, and borders that are not aligned to anything.
func pattern(seed int64, size int) []byte {
	rnd := rand.New(rand.NewSource(seed))
	b := make([]byte, size)
	for off := 0; off < size; {
		n := min(size-off, 1+rnd.Intn(size/8+1))
		switch rnd.Intn(3) {
		case 0: // zeros
		case 1:
			rnd.Read(b[off : off+n])
		default: // compressible
			for i := range n {
				b[off+i] = byte(i >> 9)
			}
		}
		off += n
	}
	return b
}

func mustCopy(t *testing.T, src io.Reader, opts Options) (Result, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	res, err := Copy(context.Background(), src, path, opts)
	if err != nil {
		t.Fatalf("Copy: %v", err)
	}
	return res, path
}

func checkDisk(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("the disk differs: %d bytes, want %d; first difference at %d", len(got), len(want), firstDiff(got, want))
	}
}

func firstDiff(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func checkDigest(t *testing.T, res Result, source []byte) {
	t.Helper()
	sum := sha256.Sum256(source)
	if !bytes.Equal(res.Digest, sum[:]) || res.SourceBytes != int64(len(source)) {
		t.Fatalf("digest %x of %d bytes, want %x of %d", res.Digest, res.SourceBytes, sum, len(source))
	}
}

// A raw disk arrives byte for byte, sparse, whatever its length.
func TestRaw(t *testing.T) {
	for _, size := range []int{0, 1, 511, 512, 513, 4096, chunkSize, chunkSize + 1, 2*chunkSize + 512, 9*chunkSize + 100} {
		src := pattern(int64(size), size)
		res, path := mustCopy(t, bytes.NewReader(src), Options{})
		checkDisk(t, path, append(src, make([]byte, int(image.Align(int64(size)))-size)...))
		checkDigest(t, res, src)
	}
}

// cutReader ends with an error after n bytes.
type cutReader struct {
	r io.Reader
	n int64
}

var errCut = errors.New("connection reset")

func (c *cutReader) Read(p []byte) (int, error) {
	if c.n == 0 {
		return 0, errCut
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.n)])
	c.n -= int64(n)
	return n, err
}

// resumeAll copies src cut at every place in cuts, each run going on from the last one's checkpoint.
func resumeAll(t *testing.T, src []byte, cuts []int64) (Result, string, int64) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	ckpt := FileCheckpointer{Path: filepath.Join(t.TempDir(), "checkpoint")}
	sent := int64(0)
	for i := 0; ; i++ {
		c, err := ckpt.Load()
		if err != nil {
			t.Fatal(err)
		}
		opts := Options{Checkpointer: ckpt, CheckpointBytes: 1, CheckpointInterval: 1, Resume: c, Size: int64(len(src))}
		off := int64(0)
		if c != nil {
			off = c.Offset
		}
		var in io.Reader = bytes.NewReader(src[off:])
		if i < len(cuts) {
			in = &cutReader{r: in, n: max(0, cuts[i]-off)}
			sent += max(0, cuts[i]-off)
		}
		res, err := Copy(context.Background(), in, path, opts)
		if err == nil {
			sent += int64(len(src)) - off
			return againForNothing(t, src, res, path, opts), path, sent
		}
		var se *SourceError
		if !errors.As(err, &se) || i >= len(cuts) {
			t.Fatalf("cut %d: %v", i, err)
		}
	}
}

// againForNothing goes on after the end: who was killed before it could tell of its success sends nothing again.
func againForNothing(t *testing.T, src []byte, res Result, path string, opts Options) Result {
	t.Helper()
	c, err := opts.Checkpointer.(FileCheckpointer).Load()
	if err != nil {
		t.Fatal(err)
	}
	if c.Offset < int64(len(src)) {
		return res // a fixed VHD has no such checkpoint
	}
	opts.Resume = c
	again, err := Copy(context.Background(), bytes.NewReader(nil), path, opts)
	if err != nil {
		t.Fatalf("going on at the end: %v", err)
	}
	return again
}

// A raw upload that is cut anywhere goes on where it stopped.
func TestRawResume(t *testing.T) {
	src := pattern(7, 5*chunkSize+700)
	res, path, sent := resumeAll(t, src, []int64{0, 1, 600, 5000, chunkSize + 3, 3 * chunkSize, 5*chunkSize + 699})
	checkDisk(t, path, append(src, make([]byte, 324)...))
	checkDigest(t, res, src)
	if extra := sent - int64(len(src)); extra > 7*image.VPCFooterSize+5601 {
		t.Errorf("%d bytes were sent again", extra)
	}
}
