package stream

import (
	"encoding/binary"

	"virtctl/internal/cdi/image"
)

// vhdxTables reads the block table of a VHDX image.
type vhdxTables struct{ H vhdxHeader }

type vhdxHeader struct {
	Size, Block int64
	// Ratio is how many blocks come before each entry of a sector bitmap.
	Ratio int64
}

// maxMetadataEnd is how far the metadata may reach: it must be in the window at once.
const maxMetadataEnd = 5 << 20

// openVHDX reads header and metadata and announces the block table.
func openVHDX(src *source, d *mapped) error {
	fixed := src.view(0, image.VHDXFixedArea)
	l, err := image.ParseVHDXRegions(fixed.b)
	fixed.release()
	if err != nil {
		return orFailure(src, err)
	}
	if l.LogPending {
		return &NeedsSpoolError{Format: image.VHDX, Reason: "it was not closed and its log must be replayed"}
	}
	if l.MetadataOffset+l.MetadataBytes > maxMetadataEnd {
		return &NeedsSpoolError{Format: image.VHDX, Reason: "its metadata is far from its header"}
	}
	meta := src.view(l.MetadataOffset, int(l.MetadataBytes))
	err = l.ReadMetadata(meta.b)
	meta.release()
	if err != nil {
		return orFailure(src, err)
	}
	d.tab = &vhdxTables{H: vhdxHeader{Size: l.Size, Block: l.BlockSize, Ratio: l.ChunkRatio()}}
	if err := d.addRegion(region{off: l.BATOffset, end: l.BATOffset + l.Entries()*8, kind: regionBlocks}); err != nil {
		return err
	}
	return d.addRegion(region{off: l.MetadataOffset, end: l.MetadataOffset + l.MetadataBytes, kind: regionSkip})
}

// orFailure prefers the source's own failure over what came of it.
func orFailure(src *source, err error) error {
	if own := src.failure(); own != nil {
		return own
	}
	return err
}

func (t *vhdxTables) format() image.Format       { return image.VHDX }
func (t *vhdxTables) virtual() int64             { return t.H.Size }
func (t *vhdxTables) cluster() int64             { return t.H.Block }
func (t *vhdxTables) header() any                { return t.H }
func (t *vhdxTables) entrySize(regionKind) int64 { return 8 }
func (t *vhdxTables) unpack() unpacker           { return nil }

// States of a block.
const (
	vhdxPresent = 6
	vhdxPartly  = 7
)

func (t *vhdxTables) parse(d *mapped, _ regionKind, arg int64, b []byte) error {
	for i := 0; i+8 <= len(b); i += 8 {
		n := arg + int64(i/8)
		if n%(t.H.Ratio+1) == t.H.Ratio {
			continue // of a sector bitmap, which only differencing images have
		}
		e := binary.LittleEndian.Uint64(b[i:])
		virt := (n - n/(t.H.Ratio+1)) * t.H.Block
		switch {
		case e&7 == vhdxPartly:
			return d.corrupt("it has a partly present block but no parent")
		case e&7 != vhdxPresent || virt >= t.H.Size:
			continue
		case e>>60 != 0:
			return d.corrupt("a block far outside")
		}
		off := int64(e>>20) << 20
		if err := d.add(extent{phys: off, virt: virt, n: min(t.H.Block, t.H.Size-virt)}); err != nil {
			return err
		}
	}
	return nil
}
