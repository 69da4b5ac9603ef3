package launcher

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A guest that makes QEMU print without end must not fill the node's disk.
func TestTheLogOfQEMUStaysSmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log", "default_web.log")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// inotify tells this test when the file was shortened.
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	seen := os.NewFile(uintptr(fd), "inotify")
	defer seen.Close()
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- boundLog(ctx, path) }()
	chunk := strings.Repeat("x", 64<<10)
	buf := make([]byte, 4<<10)
	if err := seen.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for largest := int64(0); ; {
		if _, err := f.WriteString(chunk); err != nil {
			t.Fatal(err)
		}
		if _, err := seen.Read(buf); err != nil {
			t.Fatalf("the log was not shortened: %v", err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() < largest {
			break
		}
		largest = info.Size()
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}
