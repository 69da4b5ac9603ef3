package hold

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/fsnotify/fsnotify"

	"virtctl/internal/libvirt/wire"
)

// An empty claim becomes a disk, and virt-handler finds the holder; the end of the pod leaves no socket.
func TestHold(t *testing.T) {
	dir := t.TempDir()
	o := Options{Version: "v1", Socket: filepath.Join(dir, "s"), Image: filepath.Join(dir, "disk.img"), Capacity: 1 << 20}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	if err := notify.Add(dir); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, o) }()
	for e := range notify.Events {
		if e.Name == o.Socket && e.Has(fsnotify.Create) {
			break
		}
	}
	info, err := wire.Dial(o.Socket).Info(t.Context())
	if err != nil || info.LauncherVersion != "v1" {
		t.Errorf("%+v, %v", info, err)
	}
	if stat, err := os.Stat(o.Image); err != nil || stat.Size() != 1<<20 {
		t.Errorf("image: %v, %v", stat, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(o.Socket); err == nil {
		t.Error("the socket is left")
	}
}

// What cannot become a disk is said before anybody waits for it.
func TestNoDisk(t *testing.T) {
	dir := t.TempDir()
	if err := Run(t.Context(), Options{Socket: filepath.Join(dir, "s"), Image: filepath.Join(dir, "disk.img")}); err == nil {
		t.Error("a claim without an image and without a capacity is held")
	}
}
