package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/xi2/xz"
)

const (
	// MaxZstdWindow bounds the memory of a zstd decoder; zstd needs --long or --ultra to go beyond.
	MaxZstdWindow = 32 << 20
	// MaxXZDictionary is what xz -9 uses, the largest of its presets.
	MaxXZDictionary = 64 << 20
	// innerHead is enough of the content for every header but VHDX, whose metadata may come after its block table.
	innerHead, innerHeadVHDX = 1200 << 10, 8 << 20
)

// NewDecompressor takes the wrapping c off r. Closing it does not close r.
func NewDecompressor(r io.Reader, c Compression) (io.ReadCloser, error) {
	switch c {
	case None:
		return io.NopCloser(r), nil
	case GZ:
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, wrapError(c, err)
		}
		return decompressor{z, z.Close, c}, nil
	case ZST:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(2), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(MaxZstdWindow))
		if err != nil {
			return nil, wrapError(c, err)
		}
		return decompressor{z, func() error { z.Close(); return nil }, c}, nil
	case XZ:
		z, err := xz.NewReader(r, MaxXZDictionary)
		if err != nil {
			return nil, wrapError(c, err)
		}
		return decompressor{z, func() error { return nil }, c}, nil
	}
	return nil, fmt.Errorf("compression %q is not known; use gz, xz or zst", c)
}

// decompressor says in its errors which wrapping failed.
type decompressor struct {
	r     io.Reader
	close func() error
	c     Compression
}

func (d decompressor) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = wrapError(d.c, err)
	}
	return n, err
}

func (d decompressor) Close() error { return d.close() }

// CompressionError is a wrapping that cannot be taken off.
type CompressionError struct {
	Compression Compression
	Err         error
}

func (e *CompressionError) Error() string {
	if errors.Is(e.Err, zstd.ErrWindowSizeExceeded) || errors.Is(e.Err, xz.ErrMemlimit) {
		return fmt.Sprintf("the %s file needs more memory to unpack than is allowed; compress it again at a usual level, -9 or less and without --long", e.Compression)
	}
	return fmt.Sprintf("unpack the %s file: %v; get it again, or check it with the tool's -t", e.Compression, e.Err)
}

func (e *CompressionError) Unwrap() error { return e.Err }

func wrapError(c Compression, err error) error {
	var own *CompressionError
	if errors.As(err, &own) {
		return err
	}
	return &CompressionError{Compression: c, Err: err}
}

// inspectWrapped describes what is inside a compressed file from its first bytes.
func inspectWrapped(r io.ReaderAt, info Info) (Info, error) {
	size := info.FileSize
	if size < 0 {
		size = maxVirtualSize
	}
	z, err := NewDecompressor(io.NewSectionReader(r, 0, size), info.Compression)
	if err != nil {
		return info, err
	}
	defer z.Close()
	head := make([]byte, innerHead)
	n, err := io.ReadFull(z, head)
	whole := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	if err != nil && !whole && n < SectorSize {
		return info, err
	}
	if head = head[:n]; !whole && string(head[:8]) == vhdxMagic {
		more, _ := io.ReadAll(io.LimitReader(z, int64(innerHeadVHDX-n))) // what is cut short shows when it is needed
		head = append(head, more...)
	}
	format, comp := Sniff(head)
	if comp != None {
		return info, &RefusedError{Format: Raw, Reason: Unsupported, Detail: fmt.Sprintf("%s inside %s", comp, info.Compression)}
	}
	info.Format = format
	info.SizeHint = sizeHint(r, info)
	if format == Raw || format == ISO {
		return info, nil
	}
	return describe(bytes.NewReader(head), head, info)
}

// sizeHint is the unpacked size according to the wrapping.
func sizeHint(r io.ReaderAt, info Info) int64 {
	switch {
	case info.Compression == GZ && info.FileSize > 18:
		// ISIZE is modulo 4 GiB and of the last member only.
		if b, err := readHead(r, info.FileSize-4, 4); err == nil && len(b) == 4 {
			return int64(binary.LittleEndian.Uint32(b))
		}
	case info.Compression == ZST:
		b, err := readHead(r, 0, zstd.HeaderMaxSize)
		var h zstd.Header
		if err == nil && h.Decode(b) == nil && h.HasFCS && h.FrameContentSize < uint64(maxVirtualSize) {
			return int64(h.FrameContentSize)
		}
	case info.Compression == XZ && info.FileSize > 32:
		return xzSizeHint(r, info.FileSize)
	}
	return 0
}
