package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// fileName is the sparse file of a volume, deviceName the device node in front of it. The node's path never changes, though its loop
	// device does with every start.
	fileName   = "data"
	deviceName = "block"
	// sizeUnit is what sizes are rounded up to.
	sizeUnit = 1 << 20
	// minFilesystem is the smallest file system made.
	minFilesystem = 8 << 20
	// journal is the size of a file system's journal: the smallest that ext4 takes.
	journal = 4 << 20
)

// Volumes is the directory of volumes: one directory each.
type Volumes struct{ Dir string }

func (v Volumes) path(name string, parts ...string) string {
	return filepath.Join(append([]string{v.Dir, name}, parts...)...)
}

// Device is the path of a volume's block device.
func (v Volumes) Device(name string) string { return v.path(name, deviceName) }

// roundSize is the size that a volume gets for a request.
func roundSize(request int64, filesystem bool) int64 {
	size := (request + sizeUnit - 1) / sizeUnit * sizeUnit
	if filesystem {
		size = max(size, minFilesystem)
	}
	return max(size, sizeUnit)
}

// withOverhead adds what ext4 needs for itself, so that the claim's whole size can be used.
func withOverhead(size int64, filesystem bool) int64 {
	if !filesystem {
		return size
	}
	return roundSize(size+size/32+journal+(2<<20), false)
}

// Create makes a volume and attaches it; one that is there already, whole or in part, is completed. It returns the usable size.
func (v Volumes) Create(ctx context.Context, name string, request int64, filesystem bool) (int64, error) {
	size := roundSize(request, filesystem)
	if err := os.MkdirAll(v.path(name), 0o700); err != nil {
		return 0, fmt.Errorf("make volume: %w", err)
	}
	if _, err := os.Stat(v.path(name, fileName)); errors.Is(err, fs.ErrNotExist) {
		if err := v.makeFile(ctx, name, withOverhead(size, filesystem), filesystem); err != nil {
			return 0, err
		}
	}
	return size, v.ensureAttached(name)
}

// makeFile makes the sparse file under another name and renames it, so that a half-made file system is never taken for a volume.
func (v Volumes) makeFile(ctx context.Context, name string, size int64, filesystem bool) error {
	tmp := v.path(name, fileName+".new")
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make volume: %w", err)
	}
	err = errors.Join(f.Truncate(size), f.Close())
	if err != nil {
		return fmt.Errorf("make volume: %w", err)
	}
	if filesystem {
		// No blocks are kept for root.
		args := []string{
			"-q", "-F", "-m", "0", "-b", "4096", "-i", "16384", "-J", fmt.Sprintf("size=%d", journal>>20), "-E", "nodiscard,lazy_itable_init=1", tmp,
		}
		if out, err := exec.CommandContext(ctx, "mkfs.ext4", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("make file system: %w: %s", err, strings.TrimSpace(string(out)))
		}
	}
	return os.Rename(tmp, v.path(name, fileName))
}

// ensureAttached attaches a volume unless it is, and makes its device node.
func (v Volumes) ensureAttached(name string) error {
	number, err := v.attachedNumber(name)
	if err != nil {
		return err
	}
	if number < 0 {
		if number, err = attach(v.path(name, fileName)); err != nil {
			return err
		}
	}
	want := unix.Mkdev(loopMajor, uint32(number))
	var st unix.Stat_t
	if err := unix.Stat(v.Device(name), &st); err == nil && st.Rdev == want {
		return nil
	}
	tmp := v.Device(name) + ".new"
	if err := removeIfThere(tmp); err != nil {
		return err
	}
	if err := unix.Mknod(tmp, unix.S_IFBLK|0o600, int(want)); err != nil {
		return fmt.Errorf("make device node of volume %s: %w", name, err)
	}
	return os.Rename(tmp, v.Device(name))
}

// attachedNumber is the number of a volume's loop device, or -1.
func (v Volumes) attachedNumber(name string) (int, error) {
	loops, err := list()
	if err != nil {
		return -1, err
	}
	for _, l := range loops {
		if l.under < 0 && l.backing == v.path(name, fileName) {
			return l.number, nil
		}
	}
	return -1, nil
}

// AttachAll attaches every volume: after a reboot, or after a cluster was stopped.
func (v Volumes) AttachAll() error {
	entries, err := os.ReadDir(v.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list volumes: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if _, err := os.Stat(v.path(e.Name(), fileName)); err == nil {
			errs = append(errs, v.ensureAttached(e.Name()))
		}
	}
	return errors.Join(errs...)
}

// Grow makes a volume larger and returns its size. A file system in it keeps its own size.
func (v Volumes) Grow(name string, request int64, filesystem bool) (int64, error) {
	size := roundSize(request, filesystem)
	info, err := os.Stat(v.path(name, fileName))
	if err != nil {
		return 0, fmt.Errorf("resize volume: %w", err)
	}
	if fileSize := withOverhead(size, filesystem); info.Size() < fileSize {
		if err := os.Truncate(v.path(name, fileName), fileSize); err != nil {
			return 0, fmt.Errorf("resize volume: %w", err)
		}
	}
	number, err := v.attachedNumber(name)
	if err != nil {
		return 0, err
	}
	if number < 0 {
		return 0, fmt.Errorf("resize volume %s: it is not attached; restart the cluster", name)
	}
	return size, grow(number)
}

// errMounted says that a file system cannot be grown now.
var errMounted = errors.New("in use, and growing a mounted file system needs CAP_SYS_RESOURCE, which this machine lacks: it grows when no pod uses it")

// checkBusy is what e2fsck exits with when it cannot have a device for itself.
const checkBusy = 8

// GrowFilesystem grows the file system of a volume that nobody has mounted.
func (v Volumes) GrowFilesystem(ctx context.Context, name string) error {
	out, err := exec.CommandContext(ctx, "e2fsck", "-f", "-p", v.Device(name)).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() >= checkBusy {
		return errMounted
	}
	if err != nil && (exit == nil || exit.ExitCode() > 1) { // 1: something was repaired
		return fmt.Errorf("check file system: %w: %s", err, strings.TrimSpace(string(out)))
	}
	if out, err := exec.CommandContext(ctx, "resize2fs", v.Device(name)).CombinedOutput(); err != nil {
		return fmt.Errorf("grow file system: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Remove frees a volume's space. Whoever still has it open keeps a file without a name, which goes with the last user.
func (v Volumes) Remove(name string) error {
	loops, err := list()
	if err != nil {
		return err
	}
	ours := below(loops, v.path(name))
	for i := len(ours) - 1; i >= 0; i-- {
		if err := detach(ours[i]); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(v.path(name)); err != nil {
		return fmt.Errorf("remove volume: %w", err)
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
