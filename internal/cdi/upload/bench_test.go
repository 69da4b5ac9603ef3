package upload

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/sparse"
)

// BenchmarkHalfSparse uploads 1 GiB, every other MiB of which is data, over one TLS connection: as it is, and without its zeros. Both ends are
// in this process and compute the digest; cpu-s/op is the time of all processors, MB/s is of the disk.
func BenchmarkHalfSparse(b *testing.B) {
	const size, run = 1 << 30, 1 << 20
	f, err := os.Create(filepath.Join(b.TempDir(), "half.raw"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	noise := make([]byte, run)
	for off := int64(0); off < size; off += 2 * run {
		_, _ = rand.Read(noise)
		if _, err := f.WriteAt(noise, off); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		b.Fatal(err)
	}
	for name, present := range map[string]func() (io.ReaderAt, int64){
		"raw": func() (io.ReaderAt, int64) { return f, size },
		"without zeros": func() (io.ReaderAt, int64) {
			image, err := sparse.Of(context.Background(), f, size)
			if err != nil || image == nil {
				b.Fatalf("%v, %v", image, err)
			}
			return image, image.Size()
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			before := processors()
			for b.Loop() {
				content, length := present()
				digested := make(chan struct{})
				go func() {
					_, _ = io.CopyBuffer(sha256.New(), io.NewSectionReader(content, 0, length), make([]byte, run))
					close(digested)
				}()
				g := newTarget(b)
				g.config.Options.CheckpointBytes, g.config.Options.CheckpointInterval = 0, 0
				g.config.Options.Available = size
				g.start()
				r := g.send(http.MethodPost, "/v1beta1/upload", io.NewSectionReader(content, 0, length), names.HeaderIdentity, "mine", names.HeaderLength, fmt.Sprint(length))
				if r.StatusCode != http.StatusOK {
					b.Fatalf("%s %s", r.Status, r.text)
				}
				g.mustEnd()
				<-digested
				_ = os.Remove(g.config.Volume.Disk)
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
