package nbd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

type broken struct{ io.ReaderAt }

var errBroken = errors.New("the source is gone")

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errBroken }

func serve(t *testing.T, export Export) (socket string, end func() error) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, export) }()
	return socket, func() error { cancel(); return <-done }
}

// qemu-img reads the same bytes, and what it asks to write is refused.
func TestQemuImgReads(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 300_000)
	socket, end := serve(t, Export{Reader: bytes.NewReader(data), Size: int64(len(data))})
	out := filepath.Join(t.TempDir(), "out")
	if text, err := exec.Command("qemu-img", "convert", "-f", "raw", "-O", "raw", "nbd+unix:///?socket="+socket, out).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, text)
	}
	got, _ := os.ReadFile(out)
	if !bytes.Equal(bytes.TrimRight(got, "\x00"), data) {
		t.Fatalf("%d bytes", len(got))
	}
	if text, err := exec.Command("qemu-io", "-f", "raw", "-c", "write 0 512", "nbd+unix:///?socket="+socket).CombinedOutput(); err == nil && !bytes.Contains(text, []byte("read")) {
		t.Fatalf("written: %s", text)
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
}

func TestFailureOfTheSourceIsTold(t *testing.T) {
	socket, end := serve(t, Export{Reader: broken{}, Size: 1 << 20})
	if text, err := exec.Command("qemu-img", "convert", "-f", "raw", "-O", "raw", "nbd+unix:///?socket="+socket, filepath.Join(t.TempDir(), "out")).CombinedOutput(); err == nil {
		t.Fatalf("%s", text)
	}
	if err := end(); !errors.Is(err, errBroken) {
		t.Fatalf("%v", err)
	}
}

func FuzzSession(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x03IHAVEOPT\x00\x00\x00\x07\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, input []byte) {
		client, server := net.Pipe()
		_ = server.SetDeadline(time.Now().Add(5 * time.Second))
		go func() { _, _ = io.Copy(io.Discard, client) }()
		go func() {
			_, _ = client.Write(input)
			_ = client.Close()
		}()
		s := &session{conn: server, export: Export{Reader: bytes.NewReader(make([]byte, 100)), Size: 100}}
		if err := s.run(); err == nil && len(input) < 20 {
			t.Fatal("a session of nothing ended well")
		}
		server.Close()
	})
}
