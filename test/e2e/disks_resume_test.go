//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"testing"

	"virtctl/test/cluster"
)

const (
	uploadSize = 192 << 20
	// cutAt is how many bytes pass before what a test does to the upload happens.
	cutAt = uploadSize / 2
	// again is how much may cross the wire twice, however large the file: what was on its way to the disk, and TLS.
	again = 32 << 20
)

// TestUploadsGoOn: whatever ends an upload half-way, it goes on where it was, and the disk has the file's checksum.
func TestUploadsGoOn(t *testing.T) {
	for name, interrupt := range map[string]func(j *journey, w *cluster.Wire, kill func()){
		"network-cut":   func(_ *journey, w *cluster.Wire, _ func()) { w.Cut() },
		"client-killed": func(_ *journey, _ *cluster.Wire, kill func()) { kill() },
		"pod-killed": func(j *journey, _ *cluster.Wire, _ func()) {
			j.kubectl("delete", "pod", "cdi-upload-disk", "--grace-period=0", "--force")
		},
		"apiserver-killed": func(j *journey, _ *cluster.Wire, _ func()) {
			j.kubectl("delete", "pod", "-n", "kubevirt", "-l", "cdi.kubevirt.io=cdi-apiserver", "--grace-period=0", "--force")
		},
	} {
		t.Run(name, func(t *testing.T) {
			j := start(t)
			j.goesOn(again, func(w *cluster.Wire, kill func()) { interrupt(j, w, kill) })
		})
	}
}

// goesOn uploads a file, and has something happen in the middle that must not be felt, but for the time it takes and for bytes that are sent
// again.
func (j *journey) goesOn(again int64, interrupt func(w *cluster.Wire, kill func())) {
	j.Helper()
	file, digest := j.randomFile(uploadSize)
	w := j.wire(cutAt)
	upload := []string{
		"image-upload", "dv", "disk", "--image-path", file, "--insecure", "--retry", "20",
		"-n", j.namespace, "--server", w.Server,
	}
	bounded, end := context.WithTimeout(j.Context(), stepTime)
	defer end()
	ctx, kill := context.WithCancel(bounded)
	defer kill()
	interrupted := make(chan struct{})
	go func() {
		defer close(interrupted)
		select {
		case <-w.Reached:
			interrupt(w, kill)
		case <-bounded.Done():
		}
	}()
	r := command(ctx, "", "virtctl", upload...)
	<-interrupted
	if ctx.Err() != nil {
		r = command(bounded, "", "virtctl", upload...)
	}
	if r.Code != 0 {
		j.Fatalf("the upload did not go on: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	j.want("checksum of what arrived", j.kubectl("get", "pvc", "disk", "-o", `jsonpath={.metadata.annotations.virtctl\.io/content-digest}`), digest)
	if sent := w.Sent.Load(); sent > uploadSize+again {
		j.Errorf("%d bytes crossed the wire for a file of %d: more than %d twice", sent, uploadSize, again)
	}
	j.noWorkers()
}

func (j *journey) randomFile(size int64) (path, digest string) {
	j.Helper()
	path = filepath.Join(j.TempDir(), "disk.raw")
	file, err := os.Create(path)
	if err != nil {
		j.Fatal(err)
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(file, sum), rand.Reader, size); err != nil {
		j.Fatal(err)
	}
	return path, "sha256:" + hex.EncodeToString(sum.Sum(nil))
}

// wire is a way to the API server that can be cut.
func (j *journey) wire(at int64) *cluster.Wire {
	j.Helper()
	w, err := shared.Wire(j.Context(), at)
	if err != nil {
		j.Fatal(err)
	}
	j.Cleanup(w.Close)
	return w
}
