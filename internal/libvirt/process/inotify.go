package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// WaitForPath returns as soon as path exists. Its directory must exist already. Nothing is polled: inotify tells.
func WaitForPath(ctx context.Context, path string) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch for %s: %w", path, err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	defer events.Close()
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_CREATE|unix.IN_MOVED_TO); err != nil {
		return fmt.Errorf("watch for %s: %w", path, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = events.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, unix.SizeofInotifyEvent+unix.NAME_MAX+1)
	for {
		if _, err := os.Lstat(path); err == nil {
			return nil
		} else if !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("watch for %s: %w", path, err)
		}
		if _, err := events.Read(buf); err != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("wait for %s: %w", path, context.Cause(ctx))
			}
			return fmt.Errorf("watch for %s: %w", path, err)
		}
	}
}

// WatchProjected calls changed whenever kubelet has put new files into one of the projected volumes mounted at dirs: it swaps them as
// a whole, by renaming a link. It returns when ctx ends.
func WatchProjected(ctx context.Context, dirs []string, changed func()) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch volumes: %w", err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	defer events.Close()
	for _, dir := range dirs {
		if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MOVED_TO|unix.IN_ONLYDIR); err != nil {
			return fmt.Errorf("watch %s: %w", dir, err)
		}
	}
	changed() // what has come before the watch did
	stop := context.AfterFunc(ctx, func() { _ = events.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 64*(unix.SizeofInotifyEvent+unix.NAME_MAX+1))
	for {
		if _, err := events.Read(buf); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("watch volumes: %w", err)
		}
		changed()
	}
}
