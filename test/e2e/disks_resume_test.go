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
	"strconv"
	"strings"
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
		"image-upload", "dv", "disk", "--image-path", file, "--insecure", "--retry", "20", "--direct=false",
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

// TestUploadsGoStraight: the upload server's pod can be reached from here, and what happens to it or to the client in the middle is mended there
// too. The length of the file gives what happens the time to happen in the middle.
func TestUploadsGoStraight(t *testing.T) {
	const length = 768 << 20
	for name, interrupt := range map[string]func(j *journey, kill func()){
		"nothing":       func(*journey, func()) {},
		"client-killed": func(_ *journey, kill func()) { kill() },
		"pod-killed": func(j *journey, _ func()) {
			j.kubectl("delete", "pod", "cdi-upload-disk", "--grace-period=0", "--force")
		},
	} {
		t.Run(name, func(t *testing.T) {
			j := start(t)
			file, digest := j.randomFile(length)
			upload := []string{"image-upload", "dv", "disk", "--image-path", file, "-n", j.namespace, "-o", "json"}
			ctx, kill := context.WithCancel(j.Context())
			defer kill()
			cmd := shared.Program(ctx, "virtctl", upload...)
			talk := &listener{text: "sending straight to", heard: func() { interrupt(j, kill) }}
			cmd.Stderr = talk
			err := cmd.Run()
			said := talk.all.String()
			if ctx.Err() != nil {
				again := command(j.Context(), "", "virtctl", upload...)
				said, err = again.Stderr, nil
				j.want("exit code of the second run", strconv.Itoa(again.Code), "0")
			}
			if err != nil || !strings.Contains(said, talk.text) {
				t.Fatalf("%v\n%s", err, said)
			}
			if name == "pod-killed" && !strings.Contains(said, "trying again") {
				t.Errorf("the pod was killed and nothing broke:\n%s", said)
			}
			j.want("checksum of what arrived", j.kubectl("get", "pvc", "disk", "-o", `jsonpath={.metadata.annotations.virtctl\.io/content-digest}`), digest)
			j.noWorkers()
		})
	}
}

// listener acts when a text comes.
type listener struct {
	text  string
	heard func()
	all   strings.Builder
}

func (l *listener) Write(p []byte) (int, error) {
	l.all.Write(p)
	if l.heard != nil && strings.Contains(l.all.String(), l.text) {
		act := l.heard
		l.heard = nil
		act()
	}
	return len(p), nil
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
