package stream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"virtctl/internal/cdi/image"
)

const (
	// holeBlock is the unit in which zeros are looked for: a filesystem's and a page's block.
	holeBlock = 4096
	// diskMode is the mode the contract gives to disk.img.
	diskMode = 0o660
)

// target is the disk that is written.
type target struct {
	f         *os.File
	path      string
	block     bool
	available int64
	prealloc  bool
	virtual   int64 // -1 until it is known
	full      bool  // everything is written, zeros as well: the space could not be reserved otherwise
	written   atomic.Int64
}

// openTarget opens a device, or makes a regular file. Content is not touched yet.
func openTarget(path string, opts Options) (*target, error) {
	t := &target{path: path, prealloc: opts.Preallocation, virtual: image.Unknown}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, diskMode)
	if err != nil {
		return nil, targetError(path, "open", err)
	}
	t.f = f
	if err := t.measure(opts.Available); err != nil {
		f.Close()
		return nil, err
	}
	return t, nil
}

// measure finds out what the target is and how large a disk it can hold.
func (t *target) measure(available int64) error {
	st, err := t.f.Stat()
	if err != nil {
		return targetError(t.path, "look at", err)
	}
	room := int64(0)
	switch {
	case st.Mode().IsRegular():
		if room, err = freeSpace(t.f); err != nil {
			return targetError(t.path, "look at", err)
		}
	case st.Mode()&os.ModeDevice != 0 && st.Mode()&os.ModeCharDevice == 0:
		t.block = true
		if room, err = t.f.Seek(0, io.SeekEnd); err != nil {
			return targetError(t.path, "look at", err)
		}
	default:
		return fmt.Errorf("%s is neither a file nor a block device; give the path of one", t.path)
	}
	t.available = available
	if available <= 0 || t.block && room < available {
		t.available = room
	}
	return nil
}

// freeSpace is what the file could grow to: what is free and what it has already.
func freeSpace(f *os.File) (int64, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return 0, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, err
	}
	return int64(fs.Bavail)*fs.Bsize + st.Blocks*image.SectorSize, nil
}

// begin empties the target for a disk of virtual bytes, -1 when that is not known yet. Nothing is changed when it does not fit.
func (t *target) begin(virtual int64) error {
	if err := t.fits(virtual); err != nil {
		return err
	}
	t.virtual = virtual
	size := max(virtual, 0)
	if t.block {
		if virtual < 0 {
			size = t.available
		}
		return t.zeroDevice(size)
	}
	if err := errors.Join(t.f.Truncate(0), t.f.Truncate(size)); err != nil {
		return targetError(t.path, "resize", err)
	}
	if err := t.reserve(size); err != nil {
		// What could be reserved is of no use: somebody else may need it.
		return errors.Join(err, t.f.Truncate(0))
	}
	return nil
}

// resume goes on with a target that begin prepared before.
func (t *target) resume(c *Checkpoint) error {
	if err := t.fits(c.VirtualSize); err != nil {
		return err
	}
	t.virtual = c.VirtualSize
	t.written.Store(c.Written)
	if t.block {
		return nil
	}
	st, err := t.f.Stat()
	if err != nil {
		return targetError(t.path, "look at", err)
	}
	promised := t.virtual
	if promised < 0 {
		promised = c.Offset
	}
	if st.Size() < promised {
		return fmt.Errorf("%s has %d bytes where its checkpoint promises %d; start again from the beginning", t.path, st.Size(), promised)
	}
	return t.reserve(t.virtual)
}

// extend makes a file whose size is not known yet as long as its checkpoint will promise: it may end in a hole.
func (t *target) extend(size int64) error {
	if t.block || t.virtual >= 0 {
		return nil
	}
	st, err := t.f.Stat()
	if err == nil && st.Size() < size {
		err = t.f.Truncate(size)
	}
	if err != nil {
		return targetError(t.path, "resize", err)
	}
	return nil
}

func (t *target) fits(virtual int64) error {
	if virtual > t.available {
		return &TooLargeError{VirtualSize: virtual, Available: t.available}
	}
	return nil
}

// reserve allocates the whole disk, if that is asked for.
func (t *target) reserve(size int64) error {
	if !t.prealloc || size <= 0 || t.block {
		return nil
	}
	err := ignoringEINTR(func() error { return unix.Fallocate(int(t.f.Fd()), 0, 0, size) })
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		t.full = true
		return nil
	}
	if err != nil {
		return targetError(t.path, "reserve space on", err)
	}
	return nil
}

// fill writes zeros where space can be reserved in no other way: a raw source brings them all, other formats leave them out.
func (t *target) fill(from, to int64) error {
	if !t.full {
		return nil
	}
	for from < to {
		n, err := t.f.WriteAt(zeros[:min(int64(len(zeros)), to-from)], from)
		if err != nil {
			return targetError(t.path, "reserve space on", err)
		}
		from += int64(n)
	}
	return nil
}

// write puts b at off, leaving out blocks of zeros: they are holes already. It may be called from several goroutines.
func (t *target) write(off int64, b []byte) error {
	if t.virtual >= 0 && off+int64(len(b)) > t.virtual {
		b = b[:max(0, t.virtual-off)]
	}
	if off+int64(len(b)) > t.available {
		return &TooLargeError{VirtualSize: off + int64(len(b)), Available: t.available, AtLeast: true}
	}
	if t.full {
		return t.writeAll(off, b)
	}
	for len(b) > 0 {
		skip := zeroPrefix(off, b)
		off, b = off+int64(skip), b[skip:]
		n := dataPrefix(off, b)
		if n == 0 {
			continue
		}
		if err := t.writeAll(off, b[:n]); err != nil {
			return err
		}
		off, b = off+int64(n), b[n:]
	}
	return nil
}

func (t *target) writeAll(off int64, b []byte) error {
	n, err := t.f.WriteAt(b, off)
	t.written.Add(int64(n))
	if err != nil {
		return targetError(t.path, "write to", err)
	}
	return nil
}

// finish gives the disk its size and makes it last.
func (t *target) finish(virtual, growTo int64) error {
	t.virtual = virtual
	if !t.block {
		size := min(max(virtual, growTo), t.available)
		if err := t.f.Truncate(size); err != nil {
			return targetError(t.path, "resize", err)
		}
		if err := errors.Join(t.reserve(size), t.fill(virtual, size)); err != nil {
			return err
		}
	}
	return t.sync()
}

func (t *target) sync() error {
	if err := ignoringEINTR(func() error { return unix.Fdatasync(int(t.f.Fd())) }); err != nil {
		return targetError(t.path, "sync", err)
	}
	return nil
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// zeros is compared with, and written where a device cannot be told to read zeros.
var zeros [1 << 20]byte

func isZero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), len(zeros))
		if !bytes.Equal(b[:n], zeros[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}

// zeroPrefix is how many bytes of b, which lies at off, are whole blocks of zeros.
func zeroPrefix(off int64, b []byte) int {
	n := 0
	for n < len(b) {
		step := min(holeBlock-int((off+int64(n))%holeBlock), len(b)-n)
		if !isZero(b[n : n+step]) {
			return n
		}
		n += step
	}
	return n
}

// dataPrefix is how many bytes come before the next block of zeros.
func dataPrefix(off int64, b []byte) int {
	n := 0
	for n < len(b) {
		step := min(holeBlock-int((off+int64(n))%holeBlock), len(b)-n)
		if isZero(b[n : n+step]) {
			return n
		}
		n += step
	}
	return n
}

// allocated is how many bytes of a regular file are stored, 0 for devices.
func (t *target) allocated() int64 {
	var st unix.Stat_t
	if t.block || unix.Fstat(int(t.f.Fd()), &st) != nil {
		return 0
	}
	return st.Blocks * image.SectorSize
}
