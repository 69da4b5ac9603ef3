package image

import (
	"encoding/binary"
	"io"
)

// VHDXLayout is what reading a VHDX image needs. All offsets are in bytes.
type VHDXLayout struct {
	Size           int64 // of the disk
	BlockSize      int64
	SectorSize     int64 // logical
	BATOffset      int64
	BATBytes       int64
	MetadataOffset int64
	MetadataBytes  int64
	// LogPending says that the image was not closed: its log must be replayed first.
	LogPending bool
}

const (
	// VHDXFixedArea holds identifier, headers and region tables.
	VHDXFixedArea = 320 << 10

	vhdxHeader1, vhdxHeader2 = 64 << 10, 128 << 10
	vhdxRegions              = 192 << 10
	vhdxTableBytes           = 64 << 10
	vhdxMaxEntries           = 2047
	vhdxMaxMetadata          = 4 << 20
	vhdxHasParent            = 2

	guidBAT        = "\x66\x77\xc2\x2d\x23\xf6\x00\x42\x9d\x64\x11\x5e\x9b\xfd\x4a\x08"
	guidMetadata   = "\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e"
	guidFileParams = "\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b"
	guidDiskSize   = "\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8"
	guidSectorSize = "\x1d\xbf\x41\x81\x6f\xa9\x09\x47\xba\x47\xf2\x33\xa8\xfa\xab\x5f"
)

// ParseVHDXRegions reads the fixed area of a VHDX image: where its tables are and whether its log is empty.
func ParseVHDXRegions(b []byte) (VHDXLayout, error) {
	le := binary.LittleEndian
	if len(b) < VHDXFixedArea || string(b[:8]) != vhdxMagic {
		return VHDXLayout{}, corrupt(VHDX, "its header is cut off")
	}
	l := VHDXLayout{}
	var best uint64
	found := false
	for _, at := range []int{vhdxHeader1, vhdxHeader2} {
		h := b[at : at+4096]
		if seq := le.Uint64(h[8:]); string(h[:4]) == "head" && (!found || seq > best) {
			found, best = true, seq
			l.LogPending = string(h[48:64]) != string(make([]byte, 16))
		}
	}
	if !found {
		return l, corrupt(VHDX, "it has no header")
	}
	t := b[vhdxRegions : vhdxRegions+vhdxTableBytes]
	n := le.Uint32(t[8:])
	if string(t[:4]) != "regi" || n > vhdxMaxEntries {
		return l, corrupt(VHDX, "its region table is damaged")
	}
	for i := range int(n) {
		e := t[16+32*i:]
		off, length := le.Uint64(e[16:]), le.Uint32(e[24:])
		if off > uint64(maxVirtualSize) || off < VHDXFixedArea {
			return l, corrupt(VHDX, "a region at offset %d", off)
		}
		switch string(e[:16]) {
		case guidBAT:
			l.BATOffset, l.BATBytes = int64(off), int64(length)
		case guidMetadata:
			l.MetadataOffset, l.MetadataBytes = int64(off), int64(length)
		default:
			if le.Uint32(e[28:])&1 != 0 {
				return l, &RefusedError{Format: VHDX, Reason: Unsupported, Detail: "a required region that is not known"}
			}
		}
	}
	if l.BATOffset == 0 || l.MetadataOffset == 0 || l.MetadataBytes < vhdxTableBytes || l.MetadataBytes > vhdxMaxMetadata {
		return l, corrupt(VHDX, "its region table lacks a table")
	}
	return l, nil
}

// ReadMetadata reads the metadata region into the layout. Differencing images are refused.
func (l *VHDXLayout) ReadMetadata(b []byte) error {
	le := binary.LittleEndian
	if len(b) < vhdxTableBytes || string(b[:8]) != "metadata" {
		return corrupt(VHDX, "its metadata table is damaged")
	}
	n := int(le.Uint16(b[10:]))
	if n > vhdxMaxEntries {
		return corrupt(VHDX, "%d metadata entries", n)
	}
	for i := range n {
		e := b[32+32*i:]
		off, length := int64(le.Uint32(e[16:])), int64(le.Uint32(e[20:]))
		if off+length > int64(len(b)) {
			return corrupt(VHDX, "a metadata item at offset %d", off)
		}
		item := b[off : off+length]
		switch guid := string(e[:16]); {
		case guid == guidFileParams && length >= 8:
			l.BlockSize = int64(le.Uint32(item))
			if le.Uint32(item[4:])&vhdxHasParent != 0 {
				return &RefusedError{Format: VHDX, Reason: BackingFile, Detail: "it is the difference to a parent image"}
			}
		case guid == guidDiskSize && length >= 8:
			l.Size = int64(min(le.Uint64(item), uint64(maxVirtualSize)+1))
		case guid == guidSectorSize && length >= 4:
			l.SectorSize = int64(le.Uint32(item))
		}
	}
	return l.check()
}

func (l *VHDXLayout) check() error {
	switch {
	case l.BlockSize < 1<<20 || l.BlockSize > 256<<20 || l.BlockSize&(l.BlockSize-1) != 0:
		return corrupt(VHDX, "block size %d", l.BlockSize)
	case l.Size <= 0 || l.Size > maxVirtualSize || l.Size%SectorSize != 0:
		return corrupt(VHDX, "virtual size %d", l.Size)
	case l.SectorSize != 512 && l.SectorSize != 4096:
		return corrupt(VHDX, "sector size %d", l.SectorSize)
	case l.Entries() > l.BATBytes/8:
		return corrupt(VHDX, "its block table is too short")
	}
	return nil
}

// ChunkRatio is how many payload blocks come before each sector bitmap block in the block table.
func (l *VHDXLayout) ChunkRatio() int64 { return (1 << 23) * l.SectorSize / l.BlockSize }

// Entries is how many entries of the block table are used.
func (l *VHDXLayout) Entries() int64 {
	blocks := (l.Size + l.BlockSize - 1) / l.BlockSize
	return blocks + (blocks-1)/l.ChunkRatio()
}

func describeVHDX(r io.ReaderAt, info Info) (Info, error) {
	fixed, err := readExact(r, VHDX, 0, VHDXFixedArea)
	if err != nil {
		return info, err
	}
	l, err := ParseVHDXRegions(fixed)
	if err != nil {
		return info, err
	}
	meta, err := readExact(r, VHDX, l.MetadataOffset, int(l.MetadataBytes))
	if err != nil {
		return info, err
	}
	if err := l.ReadMetadata(meta); err != nil {
		return info, err
	}
	info.VirtualSize, info.ClusterSize, info.Subformat = l.Size, l.BlockSize, "dynamic"
	return info, nil
}
