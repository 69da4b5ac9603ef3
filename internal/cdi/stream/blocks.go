package stream

import (
	"encoding/binary"

	"virtctl/internal/cdi/image"
)

// blockTables reads formats with one table of 4-byte entries, one for each block of the disk: VDI and dynamic VHD.
type blockTables struct {
	H blockHeader
}

type blockHeader struct {
	Format    image.Format
	Size      int64
	BlockSize int64
	Table     int64 // offset of the block table
	Entries   int64
	// An entry e stands for offset Base + e*Unit + Skip, in byte order Big.
	Base, Unit, Skip int64
	Big              bool
	// Unused and everything above are entries without data.
	Unused uint32
}

func newVDI(h image.VDIHeader) blockHeader {
	return blockHeader{
		Format: image.VDI, Size: h.Size, BlockSize: h.BlockSize, Table: h.MapOffset, Entries: (h.Size + h.BlockSize - 1) / h.BlockSize,
		Base: h.DataOffset, Unit: h.BlockSize, Unused: 0xfffffffe,
	}
}

func newVPC(f image.VPCFooter, h image.VPCDynamicHeader) blockHeader {
	bitmap := image.Align(h.BlockSize / image.SectorSize / 8)
	return blockHeader{
		Format: image.VPC, Size: f.Size, BlockSize: h.BlockSize, Table: h.TableOffset, Entries: (f.Size + h.BlockSize - 1) / h.BlockSize,
		Unit: image.SectorSize, Skip: bitmap, Big: true, Unused: 0xffffffff,
	}
}

func newBlocks(h blockHeader, d *mapped) error {
	d.tab = &blockTables{H: h}
	if h.Entries == 0 {
		return nil
	}
	return d.addRegion(region{off: h.Table, end: h.Table + h.Entries*4, kind: regionBlocks})
}

func (t *blockTables) format() image.Format       { return t.H.Format }
func (t *blockTables) virtual() int64             { return t.H.Size }
func (t *blockTables) cluster() int64             { return t.H.BlockSize }
func (t *blockTables) header() any                { return t.H }
func (t *blockTables) entrySize(regionKind) int64 { return 4 }
func (t *blockTables) unpack() unpacker           { return nil }

func (t *blockTables) parse(d *mapped, _ regionKind, arg int64, b []byte) error {
	for i := 0; i+4 <= len(b); i += 4 {
		e := binary.LittleEndian.Uint32(b[i:])
		if t.H.Big {
			e = binary.BigEndian.Uint32(b[i:])
		}
		if e >= t.H.Unused {
			continue
		}
		virt := (arg + int64(i/4)) * t.H.BlockSize
		phys := t.H.Base + int64(e)*t.H.Unit + t.H.Skip
		if err := d.add(extent{phys: phys, virt: virt, n: min(t.H.BlockSize, t.H.Size-virt)}); err != nil {
			return err
		}
	}
	return nil
}
