package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"virtctl/internal/libvirt/image"
	"virtctl/internal/libvirt/wire"
)

const (
	sectorSize = 512
	// imageDir is where a container disk has its image.
	imageDir = "disk"
)

// findImage returns the path of the image of a container disk and what it is. The image comes from a registry: nothing in it is
// followed out of it.
func findImage(spec wire.DiskSpec) (string, image.Info, error) {
	info, err := os.Stat(spec.Source)
	if errors.Is(err, os.ErrNotExist) {
		return "", image.Info{}, fmt.Errorf("the image is not mounted at %s; does the node's container runtime support image volumes?", spec.Source)
	}
	if err != nil {
		return "", image.Info{}, fmt.Errorf("open the container disk: %w", err)
	}
	dir, name := spec.Source, spec.Path
	if !info.IsDir() {
		dir, name = filepath.Split(spec.Source)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", image.Info{}, fmt.Errorf("open the container disk: %w", err)
	}
	defer root.Close()
	switch {
	case !info.IsDir():
	case name == "":
		if name, err = onlyFile(root); err != nil {
			return "", image.Info{}, err
		}
	default:
		if name, err = inside(name); err != nil {
			return "", image.Info{}, err
		}
	}
	found, err := inspect(root, name, spec.MaxVirtualSize)
	return filepath.Join(dir, name), found, err
}

// inside turns a path of a container disk into one relative to the image.
func inside(p string) (string, error) {
	for part := range strings.SplitSeq(p, "/") {
		if part == ".." {
			return "", invalidf("the path %q leaves the image", p)
		}
	}
	clean := strings.TrimPrefix(path.Clean("/"+p), "/")
	if clean == "" {
		return "", invalidf("the path %q names no file", p)
	}
	return clean, nil
}

// onlyFile finds the one file in /disk. Hidden files are no disks.
func onlyFile(root *os.Root) (string, error) {
	dir, err := root.Open(imageDir)
	if errors.Is(err, os.ErrNotExist) {
		return "", invalidf("the image has no directory /disk; a container disk holds exactly one file there")
	}
	if err != nil {
		return "", invalidf("open /disk of the image: %w", err)
	}
	defer dir.Close()
	entries, err := dir.ReadDir(1000)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", invalidf("read /disk of the image: %w", err)
	}
	var names []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	switch len(names) {
	case 0:
		return "", invalidf("/disk of the image is empty; a container disk holds exactly one file there")
	case 1:
		return path.Join(imageDir, names[0]), nil
	}
	return "", invalidf("/disk of the image holds %d files; leave one, or name the disk with containerDisk.path", len(names))
}

// inspect opens a file of the image without following a link at its end and looks at its header.
func inspect(root *os.Root, name string, limit int64) (image.Info, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return image.Info{}, invalidf("the image has no file /%s", name)
	case errors.Is(err, os.ErrPermission):
		return image.Info{}, invalidf("/%s of the image cannot be read by user 107; make it readable for everyone", name)
	case err != nil:
		return image.Info{}, invalidf("open /%s of the image: %w", name, err)
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return image.Info{}, fmt.Errorf("look at /%s of the image: %w", name, err)
	}
	if !stat.Mode().IsRegular() {
		return image.Info{}, invalidf("/%s of the image is not a regular file", name)
	}
	info, err := image.Inspect(f, stat.Size())
	if err != nil {
		return image.Info{}, invalidf("/%s of the image cannot be used: %w", name, err)
	}
	if limit > 0 && info.VirtualSize > limit {
		return image.Info{}, invalidf("/%s of the image has a virtual size of %d bytes, the limit is %d", name, info.VirtualSize, limit)
	}
	return info, nil
}

// rawDisk says what a raw file or block device is.
func rawDisk(source string) (wire.DiskFacts, error) {
	f, err := os.OpenFile(source, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return wire.DiskFacts{}, invalidf("%s does not exist", source)
	}
	if err != nil {
		return wire.DiskFacts{}, fmt.Errorf("open the disk: %w", err)
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return wire.DiskFacts{}, fmt.Errorf("look at the disk: %w", err)
	}
	facts := wire.DiskFacts{Path: source, Format: string(image.Raw), DirectIO: directIO(source)}
	facts.ReadOnly = unix.Access(source, unix.W_OK) != nil
	switch {
	case stat.Mode().IsRegular():
		facts.VirtualSize = stat.Size()
		facts.Preallocated = stat.Sys().(*syscall.Stat_t).Blocks*sectorSize >= stat.Size()
	case stat.Mode()&os.ModeDevice != 0 && stat.Mode()&os.ModeCharDevice == 0:
		facts.Block, facts.Preallocated = true, true
		if facts.VirtualSize, err = f.Seek(0, io.SeekEnd); err != nil {
			return wire.DiskFacts{}, fmt.Errorf("read the size of the device: %w", err)
		}
	default:
		return wire.DiskFacts{}, invalidf("%s is neither a file nor a block device", source)
	}
	if facts.VirtualSize <= 0 {
		return wire.DiskFacts{}, invalidf("%s is empty", source)
	}
	return facts, nil
}

// directIO tells whether the page cache can be passed by. Some filesystems (tmpfs, some network ones) cannot.
func directIO(path string) bool {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return true
}
