package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// maxQEMULog bounds QEMU's log. A guest can make QEMU print; nobody but us looks after the file, which takes the node's disk.
const maxQEMULog = 1 << 20

// boundLog empties QEMU's log whenever it has grown too large, until ctx ends. QEMU appends, so that it goes on at the start.
func boundLog(ctx context.Context, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("watch QEMU's log: %w", err)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch QEMU's log: %w", err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	defer events.Close()
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_MODIFY); err != nil {
		return fmt.Errorf("watch QEMU's log: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = events.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 4<<10)
	for {
		if _, err := events.Read(buf); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("watch QEMU's log: %w", err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Size() <= maxQEMULog {
			continue
		}
		if err := os.Truncate(path, 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("shorten QEMU's log: %w", err)
		}
	}
}
