// Package image reads just enough of a disk image's header to say what it is and whether it may be opened, and writes empty qcow2
// images. Images come from users and registries: a header is data to distrust. QEMU follows names in a header (a backing file, an
// external data file) with the launcher's rights, so images that contain such names are refused before QEMU sees them.
package image

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Format is how a disk's bytes are stored.
type Format string

const (
	Raw   Format = "raw"
	QCOW2 Format = "qcow2"
)

// MaxVirtualSize is the largest disk anybody may have, in bytes: what ext4 and xfs with usual block sizes hold.
const MaxVirtualSize = 64 << 40

// Info is what an image is.
type Info struct {
	Format Format
	// VirtualSize is what the guest sees, in bytes.
	VirtualSize int64
}

// probeSize is how much of a file's start is looked at.
const probeSize = 64 << 10

// foreign are formats that are neither raw nor qcow2. Given to a guest as raw they would be garbage without a word.
func foreign() []struct{ magic, name string } {
	return []struct{ magic, name string }{
		{"KDMV", "a VMDK image"},
		{"COWD", "a VMDK image"},
		{"# Disk DescriptorFile", "a VMDK descriptor"},
		{"vhdxfile", "a VHDX image"},
		{"conectix", "a VHD image"},
		{"QED\x00", "a QED image"},
		{"WithoutFreeSpace", "a Parallels image"},
		{"WithouFreSpacExt", "a Parallels image"},
		{"<<< Oracle VM VirtualBox Disk Image >>>", "a VDI image"},
		{"<<< QEMU VM Virtual Disk Image >>>", "a VDI image"},
		{"\x1f\x8b\x08", "compressed with gzip"},
		{"\xfd7zXZ\x00", "compressed with xz"},
		{"\x28\xb5\x2f\xfd", "compressed with zstd"},
		{"BZh", "compressed with bzip2"},
		{"PK\x03\x04", "a zip archive"},
	}
}

// Inspect says what an image of size bytes is, or why it cannot be used.
func Inspect(r io.ReaderAt, size int64) (Info, error) {
	if size == 0 {
		return Info{}, errors.New("the image is empty")
	}
	head := make([]byte, min(size, probeSize))
	if _, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return Info{}, fmt.Errorf("read the image: %w", err)
	}
	if bytes.HasPrefix(head, []byte(qcow2Magic)) {
		return inspectQCOW2(head, size)
	}
	for _, f := range foreign() {
		if bytes.HasPrefix(head, []byte(f.magic)) {
			return Info{}, fmt.Errorf("the image is %s; convert it with: qemu-img convert -O qcow2 SOURCE disk.qcow2", f.name)
		}
	}
	if size > MaxVirtualSize {
		return Info{}, tooLarge(uint64(size))
	}
	return Info{Format: Raw, VirtualSize: (size + sectorSize - 1) / sectorSize * sectorSize}, nil
}

const sectorSize = 512

func tooLarge(size uint64) error {
	return fmt.Errorf("its virtual size of %d bytes is more than the limit of %d", size, int64(MaxVirtualSize))
}
