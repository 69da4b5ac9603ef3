// Package beneath opens files inside directories that a pod or a user controls. A path can neither leave the directory nor pass
// a symbolic link on its way, so nobody can point the node agent at a file of the node (CVE-2022-1798, CVE-2025-64437,
// CVE-2026-7374).
package beneath

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Open opens name below dir. flags are those of open(2); O_CLOEXEC and O_NOFOLLOW are added. It stays on the mounts it meets.
func Open(dir *os.File, name string, flags int) (*os.File, error) {
	return open(dir, name, flags, 0)
}

// OpenSameMount is Open that crosses no mount point: what it finds is part of the directory's own filesystem.
func OpenSameMount(dir *os.File, name string, flags int) (*os.File, error) {
	return open(dir, name, flags, unix.RESOLVE_NO_XDEV)
}

func open(dir *os.File, name string, flags int, resolve uint64) (*os.File, error) {
	how := &unix.OpenHow{
		Flags:   uint64(flags) | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | resolve,
	}
	for {
		fd, err := unix.Openat2(int(dir.Fd()), name, how)
		// RESOLVE_BENEATH answers EAGAIN when a directory was renamed meanwhile.
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: dir.Name() + "/" + name, Err: err}
		}
		return os.NewFile(uintptr(fd), dir.Name()+"/"+name), nil
	}
}

// OpenDir opens a directory that nobody but root controls, as a starting point.
func OpenDir(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Type gives the file's type bits (unix.S_IFREG, ...) and the device number it stands for.
func Type(f *os.File) (kind uint32, rdev uint64, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, 0, fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	return st.Mode & unix.S_IFMT, st.Rdev, nil
}

// ReadFile reads a regular file of at most limit bytes below dir.
func ReadFile(dir *os.File, name string, limit int64) ([]byte, error) {
	// O_NONBLOCK: a FIFO in the file's place must not hold us.
	f, err := Open(dir, name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	kind, _, err := Type(f)
	if err != nil {
		return nil, err
	}
	if kind != unix.S_IFREG {
		return nil, fmt.Errorf("%s is not a regular file", f.Name())
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", f.Name(), limit)
	}
	return data, nil
}
