package sparse

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// part is a part of a disk that holds data; zeros are written where it says so, and are no hole.
type part struct {
	off, n int64
	zeros  bool
}

// disk makes a raw file.
func disk(t testing.TB, size int64, parts ...part) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	rnd := rand.New(rand.NewSource(size))
	for _, p := range parts {
		b := make([]byte, p.n)
		if !p.zeros {
			rnd.Read(b)
		}
		if _, err := f.WriteAt(b, p.off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

// present presents a file whether that pays or not.
func present(t testing.TB, f *os.File, size int64) *Image {
	t.Helper()
	m, err := scan(context.Background(), f, func(off int64) (int64, int64) { return nextData(f, off, size) }, size)
	if err != nil {
		t.Fatal(err)
	}
	return newImage(f, m)
}

func qemuImg(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %v: %v\n%s", args, err, out)
	}
}

var layouts = map[string]struct {
	size  int64
	parts []part
	// clusters of data that are expected
	data int64
	pays bool
}{
	"empty":               {size: 0},
	"one byte":            {size: 1, parts: []part{{n: 1}}, data: 1},
	"all zeros, holes":    {size: 8 << 20, pays: true},
	"all zeros, written":  {size: 8 << 20, parts: []part{{n: 8 << 20, zeros: true}}, pays: true},
	"all data":            {size: 8 << 20, parts: []part{{n: 8 << 20}}, data: 128},
	"half, holes":         {size: 8 << 20, parts: []part{{off: 4 << 20, n: 4 << 20}}, data: 64, pays: true},
	"half, written":       {size: 8 << 20, parts: []part{{n: 8 << 20, zeros: true}, {off: 2 << 20, n: 4 << 20}}, data: 64, pays: true},
	"few zeros":           {size: 8 << 20, parts: []part{{n: 7<<20 + 1<<19}}, data: 120},
	"small, sparse":       {size: 256 << 10, parts: []part{{n: 512}}, data: 1},
	"odd size":            {size: 5<<20 + 777, parts: []part{{n: 1 << 20}, {off: 5<<20 + 700, n: 77}}, data: 17, pays: true},
	"ends in a hole":      {size: 5<<20 + 1, parts: []part{{n: 100}}, data: 1, pays: true},
	"unaligned data":      {size: 9 << 20, parts: []part{{off: cluster - 1, n: 2}, {off: 1<<20 + 5, n: 1}, {off: 9<<20 - 1, n: 1}}, data: 4, pays: true},
	"one table, full":     {size: 512 << 20, parts: []part{{n: 1}, {off: 512<<20 - 1, n: 1}}, data: 2, pays: true},
	"more than one table": {size: 513<<20 + 512, parts: []part{{off: 511 << 20, n: 2<<20 + 512}}, data: 33, pays: true},
	"tables without data": {size: 5 << 30, parts: []part{{off: 1 << 30, n: 4096}, {off: 5<<30 - 512, n: 512}}, data: 2, pays: true},
}

// The image that is presented is a good qcow2 image of the same disk, in qemu's eyes.
func TestQemuReadsIt(t *testing.T) {
	for name, c := range layouts {
		t.Run(name, func(t *testing.T) {
			f := disk(t, c.size, c.parts...)
			image := present(t, f, c.size)
			if got := image.clusters - image.body - tables(image); got != c.data {
				t.Errorf("%d clusters of data, want %d", got, c.data)
			}
			presented, err := Of(context.Background(), f, c.size)
			if err != nil || (presented != nil) != c.pays {
				t.Errorf("presented: %v, %v; want %v", presented != nil, err, c.pays)
			}
			dir := t.TempDir()
			packed, back := filepath.Join(dir, "packed.qcow2"), filepath.Join(dir, "back.raw")
			write(t, packed, image)
			qemuImg(t, "check", "-f", "qcow2", packed)
			qemuImg(t, "compare", "-f", "raw", "-F", "qcow2", f.Name(), packed)
			if c.size > 64<<20 {
				return // compared already, and large to read again
			}
			qemuImg(t, "convert", "-f", "qcow2", "-O", "raw", packed, back)
			want, _ := os.ReadFile(f.Name())
			got, err := os.ReadFile(back)
			want = append(want, make([]byte, ceil(c.size, sector)*sector-c.size)...)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("the disk is another one: %d bytes, want %d (%v)", len(got), len(want), err)
			}
		})
	}
}

func tables(i *Image) int64 {
	n := int64(0)
	for _, g := range i.data.groups {
		if g != nil {
			n++
		}
	}
	return n
}

func write(t testing.TB, path string, image *Image) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := io.Copy(f, io.NewSectionReader(image, 0, image.Size())); err != nil || n != image.Size() {
		t.Fatalf("%d of %d bytes: %v", n, image.Size(), err)
	}
}

// Whoever goes on at any offset reads the same bytes, in pieces of any size.
func TestReadAnywhere(t *testing.T) {
	f := disk(t, 4<<20+300, part{off: 100, n: 70 << 10}, part{off: 1 << 20, n: 1<<20 + 5}, part{off: 4 << 20, n: 300})
	image := present(t, f, 4<<20+300)
	whole := make([]byte, image.Size())
	if _, err := image.ReadAt(whole, 0); err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewSource(1))
	for range 500 {
		off := rnd.Int63n(image.Size())
		b := make([]byte, 1+rnd.Intn(300<<10))
		n, err := image.ReadAt(b, off)
		if want := min(int64(len(b)), image.Size()-off); int64(n) != want || (n < len(b)) != errors.Is(err, io.EOF) {
			t.Fatalf("%d bytes at %d: %d, %v", len(b), off, n, err)
		}
		if !bytes.Equal(b[:n], whole[off:off+int64(n)]) {
			t.Fatalf("%d bytes at %d differ from what was read at once", n, off)
		}
	}
	if _, err := image.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("a negative offset is read")
	}
}

// The same content is the same image, however the file system stores it: it is recognised by its digest.
func TestOnlyContentCounts(t *testing.T) {
	const size = 6 << 20
	holes := disk(t, size, part{off: 1 << 20, n: 2 << 20})
	written := disk(t, size, part{n: size, zeros: true}, part{off: 1 << 20, n: 2 << 20})
	moved := disk(t, size, part{off: 2 << 20, n: 2 << 20})
	one, two, three := present(t, holes, size), present(t, written, size), present(t, moved, size)
	if one.Fingerprint() != two.Fingerprint() || sum(t, one) != sum(t, two) {
		t.Error("holes and written zeros make different images")
	}
	if one.Fingerprint() == three.Fingerprint() {
		t.Error("data elsewhere has the same fingerprint")
	}
}

func sum(t testing.TB, image *Image) [sha256.Size]byte {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(image, 0, image.Size())); err != nil {
		t.Fatal(err)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// A file that gets shorter meanwhile is an error, never zeros that were not there.
func TestShrunk(t *testing.T) {
	f := disk(t, 4<<20, part{n: 2 << 20})
	image := present(t, f, 4<<20)
	if err := f.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, io.NewSectionReader(image, 0, image.Size())); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("reading a file that got shorter: %v", err)
	}
	all := func(off int64) (int64, int64) { return off, 4 << 20 }
	if _, err := of(context.Background(), f, all, 4<<20); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("looking at a file that got shorter: %v", err)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("enough")
	cancel(why)
	if _, err := Of(ctx, disk(t, 1<<20, part{n: 1 << 20}), 1<<20); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
}

// counted is a large disk of data only, and how much was read of it.
type counted struct{ read int64 }

func (c *counted) ReadAt(p []byte, _ int64) (int, error) {
	c.read += int64(len(p))
	for i := range p {
		p[i] = 1
	}
	return len(p), nil
}

// A large disk without zeros is not read through only to find that out.
func TestLargeWithoutZeros(t *testing.T) {
	const size = int64(1) << 40
	c := &counted{}
	image, err := of(context.Background(), c, func(off int64) (int64, int64) { return off, size }, size)
	if image != nil || err != nil || c.read > samples*cluster {
		t.Errorf("%v, %v; %d bytes were read", image != nil, err, c.read)
	}
	// Every other 8 MiB is a hole: a sample in step with that would see nothing of it.
	const run = 8 << 20
	zeros, err := sample(context.Background(), c, func(off int64) (int64, int64) {
		from := max(off, off/(2*run)*2*run+run)
		return from, (from/run + 1) * run
	}, size)
	if err != nil || zeros < samples*2/5 || zeros > samples*3/5 {
		t.Errorf("%d of %d samples are zeros, %v", zeros, samples, err)
	}
	if image, err := of(context.Background(), c, nil, maxSize+1); image != nil || err != nil {
		t.Errorf("beyond the largest disk: %v, %v", image != nil, err)
	}
}
