package stream

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// zeroSlice is how much of a device is made zero by one call, so that a call does not last forever.
const zeroSlice = 1 << 30

// zeroDevice makes the first size bytes of the device read as zeros: by unmapping where the device can, else by writing zeros
// where it does not read zeros already, so that no data is written that is not needed.
func (t *target) zeroDevice(size int64) error {
	for off := int64(0); off < size; off += zeroSlice {
		if err := t.zeroRange(off, min(zeroSlice, size-off)); err != nil {
			return targetError(t.path, "empty", err)
		}
	}
	return nil
}

func (t *target) zeroRange(off, n int64) error {
	if !t.prealloc {
		err := ignoringEINTR(func() error {
			return unix.Fallocate(int(t.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
		})
		if err == nil || !isUnsupported(err) {
			return err
		}
	}
	buf := make([]byte, len(zeros))
	for end := off + n; off < end; {
		b := buf[:min(int64(len(buf)), end-off)]
		if _, err := t.f.ReadAt(b, off); err != nil {
			return err
		}
		if !isZero(b) {
			if err := t.zeroOut(off, int64(len(b))); err != nil {
				return err
			}
		}
		off += int64(len(b))
	}
	return nil
}

// zeroOut writes zeros, by the device itself if it can.
func (t *target) zeroOut(off, n int64) error {
	r := [2]uint64{uint64(off), uint64(n)}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, t.f.Fd(), unix.BLKZEROOUT, uintptr(unsafe.Pointer(&r)))
	if errno == 0 {
		return nil
	}
	_, err := t.f.WriteAt(zeros[:n], off)
	return err
}

func isUnsupported(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM)
}
