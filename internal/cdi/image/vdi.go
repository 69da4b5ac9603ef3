package image

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// VDIHeader is the part of a VirtualBox image's header that reading it needs.
type VDIHeader struct {
	Size       int64 // of the disk, bytes
	BlockSize  int64
	Blocks     int64 // in the block map, 4 bytes each
	MapOffset  int64
	DataOffset int64
	Static     bool
}

// Subformat is "static" or "dynamic".
func (h VDIHeader) Subformat() string {
	if h.Static {
		return "static"
	}
	return "dynamic"
}

const vdiHeaderSize = 0x1c8

// ParseVDI reads a VDI header of version 1.1. Differencing images are refused.
func ParseVDI(head []byte) (VDIHeader, error) {
	le := binary.LittleEndian
	if len(head) < vdiHeaderSize || le.Uint32(head[vdiMagicAt:]) != vdiMagic {
		return VDIHeader{}, corrupt(VDI, "its header is cut off")
	}
	if v := le.Uint32(head[0x44:]); v != 0x00010001 {
		return VDIHeader{}, &RefusedError{Format: VDI, Reason: Unsupported, Detail: fmt.Sprintf("version %d.%d", v>>16, v&0xffff)}
	}
	kind := le.Uint32(head[0x4c:])
	var none [16]byte
	if !bytes.Equal(head[0x1a8:0x1b8], none[:]) || !bytes.Equal(head[0x1b8:0x1c8], none[:]) {
		return VDIHeader{}, &RefusedError{Format: VDI, Reason: BackingFile, Detail: "it is the difference to a parent image"}
	}
	if kind != 1 && kind != 2 {
		return VDIHeader{}, &RefusedError{Format: VDI, Reason: Unsupported, Detail: fmt.Sprintf("image type %d", kind)}
	}
	size := le.Uint64(head[0x170:])
	h := VDIHeader{
		BlockSize: int64(le.Uint32(head[0x178:])), Blocks: int64(le.Uint32(head[0x180:])), Static: kind == 2,
		MapOffset: int64(le.Uint32(head[0x154:])), DataOffset: int64(le.Uint32(head[0x158:])),
	}
	switch {
	case size > uint64(maxVirtualSize):
		return h, corrupt(VDI, "virtual size %d", size)
	case h.BlockSize != 1<<20 || le.Uint32(head[0x17c:]) != 0:
		return h, &RefusedError{Format: VDI, Reason: Unsupported, Detail: fmt.Sprintf("block size %d", h.BlockSize)}
	case le.Uint32(head[0x168:]) != SectorSize:
		return h, corrupt(VDI, "sector size %d", le.Uint32(head[0x168:]))
	case h.MapOffset < vdiHeaderSize || h.MapOffset%SectorSize != 0 || h.DataOffset%SectorSize != 0:
		return h, corrupt(VDI, "its tables are not aligned")
	case h.DataOffset < h.MapOffset+h.Blocks*4:
		return h, corrupt(VDI, "its data begins inside its block map")
	}
	h.Size = Align(int64(size))
	if h.Size > h.Blocks*h.BlockSize {
		return h, corrupt(VDI, "%d blocks for %d bytes", h.Blocks, h.Size)
	}
	return h, nil
}
