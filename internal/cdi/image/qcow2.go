package image

import (
	"encoding/binary"
	"fmt"
)

// QCOW2Header is the part of a qcow2 header that reading the image needs.
type QCOW2Header struct {
	Version        int
	Size           int64 // of the disk, bytes
	ClusterBits    int
	L1Offset       int64
	L1Entries      int
	RefcountOffset int64 // of the refcount table
	RefcountBytes  int64 // length of the refcount table
	Zstd           bool  // clusters are compressed with zstd, else deflate
	ExtendedL2     bool  // L2 entries are 16 bytes and know subclusters
	HeaderLength   int
}

// ClusterSize is the unit of allocation in bytes.
func (h QCOW2Header) ClusterSize() int64 { return 1 << h.ClusterBits }

// L2EntrySize is 8, or 16 with subclusters.
func (h QCOW2Header) L2EntrySize() int64 {
	if h.ExtendedL2 {
		return 16
	}
	return 8
}

// L2Coverage is how many bytes of the disk one L2 table maps.
func (h QCOW2Header) L2Coverage() int64 {
	return h.ClusterSize() / h.L2EntrySize() * h.ClusterSize()
}

// Incompatible feature bits of version 3.
const (
	qcow2Dirty = 1 << iota
	qcow2Corrupt
	qcow2DataFile
	qcow2Compression
	qcow2ExtendedL2
	qcow2Known = qcow2ExtendedL2<<1 - 1
)

const (
	qcow2ExtBacking  = 0xe2792aca
	qcow2ExtDataFile = 0x44415441
	qcow2MaxL1       = 4 << 20 // entries: qemu's own limit, 32 MiB
)

// ParseQCOW2 reads a qcow2 header of version 2 or 3. Images that reach for other files or are encrypted are refused.
func ParseQCOW2(head []byte) (QCOW2Header, error) {
	be := binary.BigEndian
	if len(head) < 72 || string(head[:4]) != qcow2Magic {
		return QCOW2Header{}, corrupt(QCOW2, "its header is cut off")
	}
	h := QCOW2Header{
		Version: int(be.Uint32(head[4:])), ClusterBits: int(be.Uint32(head[20:])),
		L1Entries: int(be.Uint32(head[36:])), HeaderLength: 72,
	}
	if h.Version != 2 && h.Version != 3 {
		return h, &RefusedError{Format: QCOW2, Reason: Unsupported, Detail: fmt.Sprintf("version %d", h.Version)}
	}
	if h.ClusterBits < 9 || h.ClusterBits > 21 {
		return h, corrupt(QCOW2, "cluster bits %d", h.ClusterBits)
	}
	if err := h.features(head); err != nil {
		return h, err
	}
	if off := be.Uint64(head[8:]); off != 0 {
		return h, &RefusedError{Format: QCOW2, Reason: BackingFile, Detail: quoteAt(head, off, be.Uint32(head[16:]))}
	}
	if m := be.Uint32(head[32:]); m != 0 {
		return h, &RefusedError{Format: QCOW2, Reason: Encrypted}
	}
	return h, h.layout(head)
}

// features reads what version 3 adds.
func (h *QCOW2Header) features(head []byte) error {
	if h.Version < 3 {
		return nil
	}
	be := binary.BigEndian
	if len(head) < 104 {
		return corrupt(QCOW2, "its header is cut off")
	}
	h.HeaderLength = int(be.Uint32(head[100:]))
	if h.HeaderLength < 104 || h.HeaderLength > 1<<12 || len(head) < h.HeaderLength {
		return corrupt(QCOW2, "header length %d", h.HeaderLength)
	}
	bits := be.Uint64(head[72:])
	h.ExtendedL2 = bits&qcow2ExtendedL2 != 0
	switch {
	case bits&qcow2DataFile != 0:
		return &RefusedError{Format: QCOW2, Reason: DataFile, Detail: extension(head[h.HeaderLength:], qcow2ExtDataFile)}
	case bits&^qcow2Known != 0:
		return &RefusedError{Format: QCOW2, Reason: Unsupported, Detail: fmt.Sprintf("incompatible features %#x", bits&^qcow2Known)}
	case bits&qcow2Corrupt != 0:
		return corrupt(QCOW2, "it is marked as corrupt")
	case h.ExtendedL2 && h.ClusterBits < 14:
		return corrupt(QCOW2, "subclusters with cluster bits %d", h.ClusterBits)
	}
	if bits&qcow2Compression != 0 {
		if h.HeaderLength < 105 || head[104] > 1 {
			return &RefusedError{Format: QCOW2, Reason: Unsupported, Detail: "compression type"}
		}
		h.Zstd = head[104] == 1
	}
	return nil
}

// layout reads and checks sizes and offsets.
func (h *QCOW2Header) layout(head []byte) error {
	be := binary.BigEndian
	size, l1, rc := be.Uint64(head[24:]), be.Uint64(head[40:]), be.Uint64(head[48:])
	mask := uint64(h.ClusterSize() - 1)
	switch {
	case size > uint64(maxVirtualSize):
		return corrupt(QCOW2, "virtual size %d", size)
	case h.L1Entries < 0 || h.L1Entries > qcow2MaxL1:
		return corrupt(QCOW2, "an L1 table of %d entries", h.L1Entries)
	case l1 > uint64(maxVirtualSize) || l1&mask != 0 || rc > uint64(maxVirtualSize) || rc&mask != 0:
		return corrupt(QCOW2, "its tables are not aligned")
	}
	h.Size, h.L1Offset, h.RefcountOffset = int64(size), int64(l1), int64(rc)
	h.RefcountBytes = int64(be.Uint32(head[56:])) << h.ClusterBits
	cover := h.L2Coverage()
	if need := (h.Size + cover - 1) / cover; int64(h.L1Entries) < need {
		return corrupt(QCOW2, "its L1 table has %d of %d entries", h.L1Entries, need)
	}
	if h.L1Offset == 0 && h.Size > 0 {
		return corrupt(QCOW2, "it has no L1 table")
	}
	return nil
}

// extension finds a header extension's text.
func extension(b []byte, want uint32) string {
	be := binary.BigEndian
	for len(b) >= 8 {
		kind, n := be.Uint32(b), uint64(be.Uint32(b[4:]))
		if kind == 0 || n > uint64(len(b)-8) {
			return ""
		}
		if kind == want {
			return quote(b[8 : 8+n])
		}
		b = b[min(uint64(len(b)), 8+(n+7)&^7):]
	}
	return ""
}

func quoteAt(head []byte, off uint64, n uint32) string {
	if off > uint64(len(head)) || uint64(n) > uint64(len(head))-off {
		return ""
	}
	return quote(head[off : off+uint64(n)])
}

// quote makes text out of an image safe to show.
func quote(b []byte) string { return fmt.Sprintf("%.200q", b) }
