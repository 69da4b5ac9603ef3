//go:build linux || darwin

package sparse

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// nextData asks the file system. One that does not know holes says that all is data.
func nextData(f *os.File, off, size int64) (from, to int64) {
	from, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return size, size
	}
	if err != nil {
		return off, size
	}
	if to, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE); err != nil {
		to = size
	}
	return from, to
}
