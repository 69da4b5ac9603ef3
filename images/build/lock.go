package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lockCache keeps a second run from making the same trees at the same time (`make -j`): it waits until the first is done. The lock goes
// with the file, at the latest when this program ends.
func lockCache(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the cache folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the cache's lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock the cache %s: %w", dir, err)
	}
	return f, nil
}
