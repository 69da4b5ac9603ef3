package stream

import (
	"encoding/binary"

	"virtctl/internal/cdi/image"
)

// qcow2Tables reads the two-level mapping of a qcow2 image.
type qcow2Tables struct{ h image.QCOW2Header }

const (
	qcow2OffsetMask = uint64(0x00fffffffffffe00)
	qcow2Packed     = uint64(1) << 62
	qcow2Zero       = uint64(1)
	// maxL1Offset is how late the first table may come; qemu-img writes it at once, growing an image moves it to the end.
	maxL1Offset = 4 << 20
	subclusters = 32
)

// newQCOW2 prepares a decoder for the image whose header is h.
func newQCOW2(h image.QCOW2Header, d *mapped) error {
	d.tab = &qcow2Tables{h: h}
	if h.Size == 0 {
		return nil
	}
	if h.L1Offset > max(maxL1Offset, 8*h.ClusterSize()) {
		return d.needsSpool("its first table is at its end")
	}
	cover := h.L2Coverage()
	entries := (h.Size + cover - 1) / cover
	if err := d.addRegion(region{off: h.L1Offset, end: h.L1Offset + entries*8, kind: regionL1}); err != nil {
		return err
	}
	if h.RefcountBytes > 0 && h.RefcountBytes <= 8<<20 && h.RefcountOffset > 0 {
		return d.addRegion(region{off: h.RefcountOffset, end: h.RefcountOffset + h.RefcountBytes, kind: regionRefcounts})
	}
	return nil
}

func (t *qcow2Tables) format() image.Format { return image.QCOW2 }
func (t *qcow2Tables) virtual() int64       { return image.Align(t.h.Size) }
func (t *qcow2Tables) cluster() int64       { return t.h.ClusterSize() }
func (t *qcow2Tables) header() any          { return t.h }

func (t *qcow2Tables) entrySize(kind regionKind) int64 {
	if kind == regionL2 {
		return t.h.L2EntrySize()
	}
	return 8
}

func (t *qcow2Tables) unpack() unpacker {
	size := int(t.h.ClusterSize())
	if t.h.Zstd {
		return func(w *worker, b []byte) ([]byte, error) { return w.zstd(image.QCOW2, b, size) }
	}
	return func(w *worker, b []byte) ([]byte, error) { return w.inflate(image.QCOW2, b, size) }
}

func (t *qcow2Tables) parse(d *mapped, kind regionKind, arg int64, b []byte) error {
	size := int(t.entrySize(kind))
	for i := 0; i+size <= len(b); i += size {
		e := binary.BigEndian.Uint64(b[i:])
		n := arg + int64(i/size)
		var err error
		switch kind {
		case regionL1:
			err = t.table(d, e, n)
		case regionRefcounts:
			if off := int64(e &^ 0x1ff); off > 0 {
				err = d.addRegion(region{off: off, end: off + t.cluster(), kind: regionSkip})
			}
		case regionL2:
			bits := uint64(0)
			if size == 16 {
				bits = binary.BigEndian.Uint64(b[i+8:])
			}
			err = t.clusterEntry(d, e, bits, n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// table announces the L2 table of an L1 entry.
func (t *qcow2Tables) table(d *mapped, e uint64, n int64) error {
	off := int64(e & qcow2OffsetMask)
	if off == 0 {
		return nil
	}
	if off&(t.cluster()-1) != 0 {
		return d.corrupt("an L2 table is not aligned")
	}
	per := t.cluster() / t.h.L2EntrySize()
	return d.addRegion(region{off: off, end: off + t.cluster(), kind: regionL2, arg: n * per})
}

// clusterEntry maps cluster n of the disk.
func (t *qcow2Tables) clusterEntry(d *mapped, e, bits uint64, n int64) error {
	virt := n << t.h.ClusterBits
	if e == 0 || virt >= t.h.Size {
		return nil
	}
	if e&qcow2Packed != 0 {
		shift := uint(62 - (t.h.ClusterBits - 8))
		off := int64(e & (1<<shift - 1))
		sectors := int64(e&^(3<<62)>>shift) + 1
		size := sectors*image.SectorSize - off%image.SectorSize
		if size > t.cluster()+2*image.SectorSize {
			return d.corrupt("a compressed cluster of %d bytes", size)
		}
		return d.add(extent{phys: off, virt: virt, n: size, packed: true})
	}
	off := int64(e & qcow2OffsetMask)
	if off == 0 {
		return nil
	}
	if off&(t.cluster()-1) != 0 {
		return d.corrupt("a cluster is not aligned")
	}
	if t.h.ExtendedL2 {
		return t.subclusters(d, off, virt, bits)
	}
	if e&qcow2Zero != 0 && t.h.Version >= 3 {
		return nil
	}
	return d.add(extent{phys: off, virt: virt, n: t.cluster()})
}

// subclusters maps those parts of a cluster that hold data: allocated and not zero.
func (t *qcow2Tables) subclusters(d *mapped, off, virt int64, bits uint64) error {
	size := t.cluster() / subclusters
	for i := range int64(subclusters) {
		if bits>>i&1 != 0 && bits>>(i+subclusters)&1 == 0 {
			if err := d.add(extent{phys: off + i*size, virt: virt + i*size, n: size}); err != nil {
				return err
			}
		}
	}
	return nil
}
