// Package image tells what a disk image is from its own bytes: format, virtual size, compression, and whether it may be used at all.
// It is pure Go and starts no program, reads a bounded part of the image, and trusts nothing that it reads.
package image

import (
	"errors"
	"fmt"
	"io"
)

// Format names a disk image format as qemu-img does; ISO and Tar are added.
type Format string

// The formats that are recognised. A file without any known mark is Raw.
const (
	Raw   Format = "raw"
	ISO   Format = "iso"
	QCOW2 Format = "qcow2"
	VMDK  Format = "vmdk"
	VDI   Format = "vdi"
	VPC   Format = "vpc"
	VHDX  Format = "vhdx"
	Tar   Format = "tar"
)

// Compression names what a whole file is wrapped in.
type Compression string

// The compressions that are recognised.
const (
	None Compression = ""
	GZ   Compression = "gz"
	XZ   Compression = "xz"
	ZST  Compression = "zst"
)

const (
	// HeadSize is how many of an image's first bytes Sniff wants to see; fewer will do for all but ISO.
	HeadSize = 64 << 10
	// Unknown is a size that only reading the whole image would tell.
	Unknown = int64(-1)
	// SectorSize is the unit in which every format counts a disk's size.
	SectorSize = 512
	// maxVirtualSize is larger than any disk a filesystem or block device of Linux can hold.
	maxVirtualSize = int64(1) << 60
	// metadataLimit bounds what is read from an image to describe it.
	metadataLimit = 8 << 20
)

// Info describes an image.
type Info struct {
	// Format of the disk inside, after Compression has been taken off.
	Format Format
	// Compression around the whole file.
	Compression Compression
	// FileSize is the source's length in bytes, or Unknown.
	FileSize int64
	// VirtualSize is the guest's disk size in bytes, or Unknown for compressed raw images and archives.
	VirtualSize int64
	// SizeHint is what the wrapping says about the size when VirtualSize is Unknown; it may lie. 0 is no hint.
	SizeHint int64
	// ClusterSize is the unit of allocation, 0 where the format has none.
	ClusterSize int64
	// Subformat is the variant: "v2", "v3", "streamOptimized", "fixed", "dynamic" and the like.
	Subformat string
}

// Reason says why an image is refused.
type Reason string

// The reasons for a refusal.
const (
	BackingFile Reason = "backing file"
	DataFile    Reason = "external data file"
	Encrypted   Reason = "encryption"
	Extents     Reason = "separate extent files"
	Unsupported Reason = "unsupported feature"
)

// RefusedError is an image that is well formed but must not be used, because it would reach for other files, or cannot be read.
type RefusedError struct {
	Format Format
	Reason Reason
	// Detail is bounded text out of the image, already quoted where needed.
	Detail string
}

func (e *RefusedError) Error() string {
	switch e.Reason {
	case BackingFile, DataFile, Extents:
		return fmt.Sprintf("the %s image needs other files (%s%s), which is refused; make one whole file with: qemu-img convert -O qcow2 IN OUT", e.Format, e.Reason, e.detail())
	case Encrypted:
		return fmt.Sprintf("the %s image is encrypted%s; decrypt it first with qemu-img convert", e.Format, e.detail())
	default:
		return fmt.Sprintf("the %s image uses an %s%s; convert it first with: qemu-img convert -O qcow2 IN OUT", e.Format, e.Reason, e.detail())
	}
}

func (e *RefusedError) detail() string {
	if e.Detail == "" {
		return ""
	}
	return ": " + e.Detail
}

// CorruptError is an image that contradicts its own format or ends too early.
type CorruptError struct {
	Format Format
	Detail string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("the %s image is damaged: %s; get it again, or check it with: qemu-img check", e.Format, e.Detail)
}

func corrupt(f Format, format string, args ...any) error {
	return &CorruptError{Format: f, Detail: fmt.Sprintf(format, args...)}
}

// Align rounds a size up to whole sectors, as a disk has no other size.
func Align(n int64) int64 { return (n + SectorSize - 1) &^ (SectorSize - 1) }

// Inspect describes the image in r, which is size bytes long (Unknown when only its head is at hand). It reads the head,
// the last sectors, and for some formats the metadata, never more than a few MiB.
// A *RefusedError or *CorruptError still comes with the format found.
func Inspect(r io.ReaderAt, size int64) (Info, error) {
	head, err := readHead(r, 0, HeadSize)
	if err != nil {
		return Info{}, fmt.Errorf("read the image's head: %w", err)
	}
	format, comp := Sniff(head)
	info := Info{Format: format, Compression: comp, FileSize: size, VirtualSize: Unknown}
	if comp != None {
		return inspectWrapped(r, info)
	}
	return describe(r, head, info)
}

// describe fills in what the format's own header says.
func describe(r io.ReaderAt, head []byte, info Info) (Info, error) {
	switch info.Format {
	case QCOW2:
		h, err := ParseQCOW2(head)
		if err != nil {
			return info, err
		}
		info.VirtualSize, info.ClusterSize, info.Subformat = h.Size, h.ClusterSize(), fmt.Sprintf("v%d", h.Version)
	case VDI:
		h, err := ParseVDI(head)
		if err != nil {
			return info, err
		}
		info.VirtualSize, info.ClusterSize, info.Subformat = h.Size, h.BlockSize, h.Subformat()
	case VMDK:
		return describeVMDK(r, head, info)
	case VPC:
		return describeVPC(r, head, info)
	case VHDX:
		return describeVHDX(r, info)
	case Tar:
	default:
		return describeRaw(r, info)
	}
	return info, nil
}

// describeRaw tells a fixed VHD, which has its only mark at the end, from a raw disk.
func describeRaw(r io.ReaderAt, info Info) (Info, error) {
	if info.FileSize < 0 {
		return info, nil
	}
	info.VirtualSize = Align(info.FileSize)
	if info.FileSize < 2*VPCFooterSize || info.Compression != None {
		return info, nil
	}
	tail := make([]byte, VPCFooterSize)
	if n, err := r.ReadAt(tail, info.FileSize-VPCFooterSize); n < len(tail) {
		if errors.Is(err, io.EOF) {
			return info, nil // only the head is at hand
		}
		return info, fmt.Errorf("read the image's end: %w", err)
	}
	if f, ok := ParseVPCFixed(tail, info.FileSize); ok {
		info.Format, info.Subformat, info.VirtualSize = VPC, "fixed", f.Size
	}
	return info, nil
}

// readHead reads up to n bytes at off; a short image is no error.
func readHead(r io.ReaderAt, off int64, n int) ([]byte, error) {
	b := make([]byte, n)
	got, err := r.ReadAt(b, off)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	return b[:got], nil
}

// readExact reads n bytes at off; an image that ends earlier is corrupt.
func readExact(r io.ReaderAt, f Format, off int64, n int) ([]byte, error) {
	if n < 0 || n > metadataLimit || off < 0 {
		return nil, corrupt(f, "metadata of %d bytes at offset %d", n, off)
	}
	b, err := readHead(r, off, n)
	if err != nil {
		return nil, fmt.Errorf("read the %s image's metadata: %w", f, err)
	}
	if len(b) < n {
		return nil, corrupt(f, "it ends inside its metadata at offset %d", off+int64(len(b)))
	}
	return b, nil
}
