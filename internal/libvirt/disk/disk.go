// Package disk makes a virtual machine's disks ready inside its pod and says what they are. Everything here may be called again:
// what exists already stays, because a guest may have written to it.
package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"virtctl/internal/libvirt/image"
	"virtctl/internal/libvirt/wire"
)

// maxDisks bounds a request.
const maxDisks = 256

// Maker makes disks. Its directories are the pod's; tests use others.
type Maker struct {
	// DiskDir takes overlays and empty disks, ISODir generated images.
	DiskDir, ISODir string
}

// Prepare makes all disks ready. An error is a *wire.Error that names the volume.
func (m Maker) Prepare(ctx context.Context, specs []wire.DiskSpec) ([]wire.DiskFacts, error) {
	if len(specs) > maxDisks {
		return nil, &wire.Error{Code: wire.CodeInvalid, Message: fmt.Sprintf("%d disks are more than the limit of %d", len(specs), maxDisks)}
	}
	facts := make([]wire.DiskFacts, 0, len(specs))
	for _, spec := range specs {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("prepare disks: %w", err)
		}
		f, err := m.prepare(spec)
		if err != nil {
			return nil, volumeError(spec.Name, err)
		}
		f.Name = spec.Name
		facts = append(facts, f)
	}
	return facts, nil
}

// invalid marks an error as the user's: trying again does not help.
type invalid struct{ error }

func (e invalid) Unwrap() error { return e.error }

func invalidf(format string, args ...any) error { return invalid{fmt.Errorf(format, args...)} }

// volumeError names the volume. What the launcher or the node failed at is unavailable: another try may help.
func volumeError(volume string, err error) error {
	code := wire.CodeUnavailable
	var user invalid
	if errors.As(err, &user) {
		code = wire.CodeInvalid
	}
	return &wire.Error{Code: code, Disk: volume, Message: fmt.Sprintf("volume %q: %v", volume, err)}
}

func (m Maker) prepare(spec wire.DiskSpec) (wire.DiskFacts, error) {
	if spec.Name == "" || spec.Name != filepath.Base(spec.Name) || spec.Name == "." || spec.Name == ".." {
		return wire.DiskFacts{}, invalidf("the name %q cannot be used for a file", spec.Name)
	}
	switch spec.Kind {
	case wire.DiskImage:
		return m.containerDisk(spec)
	case wire.DiskFile:
		return fileDisk(spec)
	case wire.DiskBlock:
		return blockDisk(spec.Source)
	case wire.DiskOverlay:
		return m.overlayDisk(spec)
	case wire.DiskEmpty:
		return m.emptyDisk(spec)
	case wire.DiskISO:
		return m.isoDisk(spec)
	}
	return wire.DiskFacts{}, invalidf("this launcher does not know disks of kind %q", spec.Kind)
}

// containerDisk puts an overlay on the image in an image volume.
func (m Maker) containerDisk(spec wire.DiskSpec) (wire.DiskFacts, error) {
	path, info, err := findImage(spec)
	if err != nil {
		return wire.DiskFacts{}, err
	}
	return m.overlay(spec.Name, info.VirtualSize, &image.Backing{Path: path, Format: info.Format})
}

// overlayDisk puts an overlay on a claim's disk, which is always raw: guests write to it, so that what it looks like means
// nothing. Probing it would let a guest turn its disk into an image that points at other files.
func (m Maker) overlayDisk(spec wire.DiskSpec) (wire.DiskFacts, error) {
	below, err := rawDisk(spec.Source)
	if err != nil {
		return wire.DiskFacts{}, err
	}
	facts, err := m.overlay(spec.Name, below.VirtualSize, &image.Backing{Path: spec.Source, Format: image.Raw})
	facts.BackingBlock = below.Block
	return facts, err
}

func (m Maker) emptyDisk(spec wire.DiskSpec) (wire.DiskFacts, error) {
	if spec.Capacity <= 0 {
		return wire.DiskFacts{}, invalidf("an empty disk needs a capacity")
	}
	return m.overlay(spec.Name, spec.Capacity, nil)
}

// overlay makes a qcow2 image unless it exists.
func (m Maker) overlay(volume string, size int64, backing *image.Backing) (wire.DiskFacts, error) {
	path := filepath.Join(m.DiskDir, volume+".qcow2")
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		if err := create(path, func(f *os.File) error { return image.WriteQCOW2(f, size, backing) }); err != nil {
			return wire.DiskFacts{}, err
		}
	} else if err != nil {
		return wire.DiskFacts{}, fmt.Errorf("look for the overlay: %w", err)
	}
	facts := wire.DiskFacts{Path: path, Format: string(image.QCOW2), VirtualSize: size, DirectIO: directIO(path)}
	if backing != nil {
		facts.Backing, facts.BackingFormat = backing.Path, string(backing.Format)
		// QEMU opens the whole chain in one cache mode.
		facts.DirectIO = facts.DirectIO && directIO(backing.Path)
	}
	return facts, nil
}

// create writes a file under a temporary name first, so that a crash leaves no half of it.
func create(path string, write func(*os.File) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	f, err := os.OpenFile(path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	err = write(f)
	if closeErr := f.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("create %s: %w", path, closeErr)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		_ = os.Remove(path + ".new")
	}
	return err
}

// fileDisk is a claim's disk.img.
func fileDisk(spec wire.DiskSpec) (wire.DiskFacts, error) {
	_, err := os.Stat(spec.Source)
	if errors.Is(err, os.ErrNotExist) && spec.Create {
		if spec.Capacity <= 0 {
			return wire.DiskFacts{}, invalidf("%s does not exist, and the claim has no capacity to make it of", spec.Source)
		}
		err = create(spec.Source, func(f *os.File) error { return allocate(f, spec) })
	}
	if errors.Is(err, os.ErrNotExist) {
		return wire.DiskFacts{}, invalidf("%s does not exist; the claim holds no disk image", spec.Source)
	}
	if err != nil {
		return wire.DiskFacts{}, err
	}
	facts, err := rawDisk(spec.Source)
	if err == nil && spec.Create && !facts.Block && !facts.ReadOnly && spec.Capacity-facts.VirtualSize >= growStep {
		return grow(spec, facts)
	}
	return facts, err
}

// growStep is the least by which a disk grows with its claim.
const growStep = 1 << 20

// grow makes an image as large as its claim has become. Where the storage refuses, the disk stays what it was.
func grow(spec wire.DiskSpec, facts wire.DiskFacts) (wire.DiskFacts, error) {
	if err := os.Truncate(spec.Source, spec.Capacity/sectorSize*sectorSize); err != nil {
		return facts, nil //nolint:nilerr // a disk of its old size is as good as it was
	}
	return rawDisk(spec.Source)
}

// allocate makes the disk as large as the claim. A filesystem that is a little smaller than its claim, as all are, gets a disk
// with holes that the filesystem can take as long as the guest does not fill it.
func allocate(f *os.File, spec wire.DiskSpec) error {
	size := spec.Capacity / sectorSize * sectorSize
	if spec.Preallocate {
		if err := unix.Fallocate(int(f.Fd()), 0, 0, size); err == nil {
			return nil
		} else if errors.Is(err, unix.ENOSPC) {
			return fmt.Errorf("preallocate %d bytes: %w; give the claim more space or turn preallocation off", size, err)
		}
	}
	if err := f.Truncate(size); err != nil {
		return fmt.Errorf("make a disk of %d bytes: %w", size, err)
	}
	return nil
}

func blockDisk(source string) (wire.DiskFacts, error) {
	facts, err := rawDisk(source)
	if err == nil && !facts.Block {
		return wire.DiskFacts{}, invalidf("%s is not a block device", source)
	}
	return facts, err
}
