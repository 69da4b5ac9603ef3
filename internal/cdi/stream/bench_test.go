package stream

import (
	"context"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"virtctl/internal/cdi/image"
	"virtctl/internal/cdi/sparse"
)

// benchDisk is a disk of 1 GiB, half of it holes: text-like data that compresses about as well as an installed system.
func benchDisk(b *testing.B, dir string) string {
	b.Helper()
	const size, run = 1 << 30, 8 << 20
	path := filepath.Join(dir, "disk.raw")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	rnd := rand.New(rand.NewSource(1))
	words := make([]byte, 64<<10)
	rnd.Read(words)
	buf := make([]byte, run)
	for off := int64(0); off < size; off += 2 * run {
		for i := 0; i < run; {
			n := min(run-i, 4+rnd.Intn(28))
			i += copy(buf[i:i+n], words[rnd.Intn(len(words)-32):])
		}
		if _, err := f.WriteAt(buf, off); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		b.Fatal(err)
	}
	return path
}

// serve offers a directory by HTTP on loopback.
func serve(b *testing.B, dir string) string {
	b.Helper()
	s := httptest.NewUnstartedServer(http.FileServer(http.Dir(dir)))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s.Listener = l
	s.Start()
	b.Cleanup(s.Close)
	return s.URL
}

// BenchmarkImport compares an import by HTTP with curl and then qemu-img convert -W of the same image, both synced.
func BenchmarkImport(b *testing.B) {
	dir := b.TempDir()
	raw := benchDisk(b, dir)
	for name, args := range map[string][]string{
		"raw": nil, "qcow2": {"-O", "qcow2"}, "qcow2zlib": {"-c", "-W", "-O", "qcow2"},
		"qcow2zstd": {"-c", "-W", "-O", "qcow2", "-o", "compression_type=zstd"}, "vdi": {"-O", "vdi"},
	} {
		src := raw
		if args != nil {
			src = filepath.Join(dir, name)
			qemuImg(b, append(append([]string{"convert", "-f", "raw"}, args...), raw, src)...)
		}
		url := serve(b, dir) + "/" + filepath.Base(src)
		b.Run(name+"/virtctl", func(b *testing.B) {
			b.SetBytes(1 << 30)
			for b.Loop() {
				importOne(b, url, filepath.Join(dir, "out"))
			}
		})
		b.Run(name+"/curl+convert", func(b *testing.B) {
			b.SetBytes(1 << 30)
			for b.Loop() {
				curlConvert(b, url, dir)
			}
		})
	}
}

func importOne(b *testing.B, url, out string) {
	resp, err := http.Get(url)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	ckpt := FileCheckpointer{Path: out + ".checkpoint"}
	if _, err := Copy(context.Background(), resp.Body, out, Options{Size: resp.ContentLength, Checkpointer: ckpt}); err != nil {
		b.Fatal(err)
	}
	os.Remove(out)
}

func curlConvert(b *testing.B, url, dir string) {
	in, out := filepath.Join(dir, "curled"), filepath.Join(dir, "converted")
	run := func(args ...string) {
		if t, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			b.Fatal(fmt.Errorf("%v: %w: %s", args, err, t))
		}
	}
	run("curl", "-sSf", "-o", in, url)
	run("qemu-img", "convert", "-W", "-t", "writeback", "-O", "raw", in, out)
	os.Remove(in)
	os.Remove(out)
}

// BenchmarkStages shows where the time goes without a network and without syncing.
func BenchmarkStages(b *testing.B) {
	dir := b.TempDir()
	raw := benchDisk(b, dir)
	b.Run("hash", func(b *testing.B) {
		b.SetBytes(1 << 30)
		for b.Loop() {
			f, _ := os.Open(raw)
			h, _ := newHasher(nil)
			s := newSource(context.Background(), io.Reader(f), 0, image.Unknown, h)
			if _, err := s.drain(unlimited, func() {}); err != nil {
				b.Fatal(err)
			}
			h.sum()
			h.close()
			f.Close()
		}
	})
	f, err := os.Open(raw)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	without, err := sparse.Of(context.Background(), f, 1<<30)
	if err != nil {
		b.Fatal(err)
	}
	for name, src := range map[string]*io.SectionReader{
		"write raw":           io.NewSectionReader(f, 0, 1<<30),
		"write without zeros": io.NewSectionReader(without, 0, without.Size()),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(1 << 30)
			before := processors()
			for b.Loop() {
				out := filepath.Join(dir, "out")
				if _, err := Copy(context.Background(), io.NewSectionReader(src, 0, src.Size()), out, Options{Size: src.Size()}); err != nil {
					b.Fatal(err)
				}
				os.Remove(out)
			}
			b.ReportMetric((processors()-before).Seconds()/float64(b.N), "cpu-s/op")
		})
	}
}

// processors is the time that this process has used.
func processors() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
