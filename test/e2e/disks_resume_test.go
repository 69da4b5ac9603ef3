//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
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
	for name, interrupt := range map[string]func(j *journey, w *wire, kill func()){
		"network-cut":   func(_ *journey, w *wire, _ func()) { w.cut() },
		"client-killed": func(_ *journey, _ *wire, kill func()) { kill() },
		"pod-killed": func(j *journey, _ *wire, _ func()) {
			j.kubectl("delete", "pod", "cdi-upload-disk", "--grace-period=0", "--force")
		},
		"apiserver-killed": func(j *journey, _ *wire, _ func()) {
			j.kubectl("delete", "pod", "-n", "kubevirt", "-l", "cdi.kubevirt.io=cdi-apiserver", "--grace-period=0", "--force")
		},
	} {
		t.Run(name, func(t *testing.T) {
			j := start(t)
			file, digest := j.randomFile(uploadSize)
			w := j.wire(cutAt)
			upload := []string{"image-upload", "dv", "disk", "--image-path", file, "--insecure", "--retry", "20",
				"-n", j.namespace, "--server", w.server}
			bounded, end := context.WithTimeout(t.Context(), stepTime)
			defer end()
			ctx, kill := context.WithCancel(bounded)
			defer kill()
			interrupted := make(chan struct{})
			go func() {
				defer close(interrupted)
				<-w.reached
				interrupt(j, w, kill)
			}()
			r := command(ctx, "", "virtctl", upload...)
			<-interrupted
			if ctx.Err() != nil {
				r = command(bounded, "", "virtctl", upload...)
			}
			if r.Code != 0 {
				t.Fatalf("the upload did not go on: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
			}
			j.want("checksum of what arrived", j.kubectl("get", "pvc", "disk", "-o", `jsonpath={.metadata.annotations.virtctl\.io/content-digest}`), digest)
			if sent := w.sent.Load(); sent > uploadSize+again {
				t.Errorf("%d bytes crossed the wire for a file of %d: more than %d twice", sent, uploadSize, again)
			}
			j.noWorkers()
		})
	}
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

// wire stands between a client and the API server, counts what the client sends and can be cut.
type wire struct {
	server string
	// reached is closed when the client has sent the number of bytes that was asked for.
	reached chan struct{}
	sent    atomic.Int64

	api  string
	at   int64
	once sync.Once

	mu   sync.Mutex
	open map[net.Conn]bool
}

func (j *journey) wire(at int64) *wire {
	j.Helper()
	api, err := url.Parse(j.kubectl("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"))
	if err != nil {
		j.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		j.Fatal(err)
	}
	w := &wire{server: "https://" + listener.Addr().String(), reached: make(chan struct{}), api: api.Host, at: at, open: map[net.Conn]bool{}}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go w.carry(client)
		}
	}()
	j.Cleanup(func() { _ = listener.Close(); w.cut() })
	return w
}

func (w *wire) carry(client net.Conn) {
	server, err := net.Dial("tcp", w.api)
	if err != nil {
		_ = client.Close()
		return
	}
	w.mu.Lock()
	w.open[client], w.open[server] = true, true
	w.mu.Unlock()
	go func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	}()
	_, _ = io.Copy(server, io.TeeReader(client, w))
	_ = server.Close()
}

// Write counts.
func (w *wire) Write(p []byte) (int, error) {
	if w.sent.Add(int64(len(p))) >= w.at {
		w.once.Do(func() { close(w.reached) })
	}
	return len(p), nil
}

// cut ends every connection there is.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for conn := range w.open {
		_ = conn.Close()
		delete(w.open, conn)
	}
}
