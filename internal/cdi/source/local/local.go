// Package local is the registry source when the node brought the image (pull method node): the image is mounted into the worker's pod, and the
// disk is a file there.
package local

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"virtctl/internal/cdi/source"
)

// Disk is the one file in a container disk's folder disk/.
type Disk struct {
	root string
	name string
}

// Find looks for the disk in the image that is mounted at dir. What is there is somebody else's: a link may lead nowhere out of it.
func Find(dir string) (*Disk, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, source.Fatalf(source.ReasonUnusable, "the image is not mounted: %w", err)
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), "disk")
	if err != nil {
		return nil, source.Fatalf(source.ReasonUnusable, "the image is no container disk: it has no folder /disk")
	}
	var found *Disk
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		if found != nil {
			return nil, source.Fatalf(source.ReasonUnusable, "the image is no container disk: its folder /disk has more than one file")
		}
		found = &Disk{root: dir, name: path.Join("disk", e.Name())}
	}
	if found == nil {
		return nil, source.Fatalf(source.ReasonUnusable, "the image is no container disk: its folder /disk has no file")
	}
	return found, nil
}

// Open is source.Object.
func (d *Disk) Open(_ context.Context, part source.Part, pin source.Info) (io.ReadCloser, source.Info, error) {
	none := source.Info{}
	f, err := os.OpenInRoot(d.root, d.name)
	if err != nil {
		return nil, none, fmt.Errorf("open the image's disk: %w", err)
	}
	st, err := f.Stat()
	if err == nil && (!st.Mode().IsRegular() || st.Size() == 0) {
		err = source.Fatalf(source.ReasonUnusable, "the image's disk %s is empty", filepath.Base(d.name))
	}
	if err == nil {
		_, err = f.Seek(part.Offset, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, none, err
	}
	info := source.Info{Size: st.Size(), Identity: fmt.Sprintf("file:%s:%d:%d", d.name, st.Size(), st.ModTime().UnixNano()), Ranges: true}
	if pin.Identity != "" && pin.Identity != info.Identity {
		f.Close()
		return nil, none, fmt.Errorf("%w: the node has another image", source.ErrChanged)
	}
	return f, info, nil
}
