package image

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// What follows is QEMU's docs/interop/qcow2.txt.
const (
	qcow2Magic = "QFI\xfb"

	headerV2 = 72
	headerV3 = 104

	incompatDirty        = 1 << 0
	incompatCorrupt      = 1 << 1
	incompatExternalData = 1 << 2
	incompatCompression  = 1 << 3
	incompatExtendedL2   = 1 << 4

	extEnd          = 0
	extBackingName  = 0xe2792aca
	extExternalData = 0x44415441
	extEncryption   = 0x0537be77

	maxExtensions = 64
	// maxL1 is QEMU's own limit for the first level table, in bytes.
	maxL1 = 32 << 20
	// maxRefTable is QEMU's own limit for the reference count table, in bytes.
	maxRefTable = 8 << 20
	// maxSnapshots is QEMU's own limit.
	maxSnapshots = 65536
)

// qcow2Header is the part of the header that decides.
type qcow2Header struct {
	version, clusterBits, crypt, l1Size, refClusters, snapshots uint32
	backingOffset, size, l1Offset, refOffset, incompatible      uint64
	headerLength                                                uint32
}

// The order of checks matters to users: what an attacker would want comes first, so that the reason names it.
func inspectQCOW2(head []byte, fileSize int64) (Info, error) {
	h, err := parseQCOW2(head)
	if err != nil {
		return Info{}, err
	}
	switch {
	case h.backingOffset != 0:
		return Info{}, errors.New("the qcow2 image has a backing file, which is not allowed; flatten it with: qemu-img convert -O qcow2 SOURCE disk.qcow2")
	case h.incompatible&incompatExternalData != 0:
		return Info{}, errors.New("the qcow2 image has an external data file, which is not allowed; merge it with: qemu-img convert -O qcow2 SOURCE disk.qcow2")
	case h.crypt != 0:
		return Info{}, errors.New("the qcow2 image is encrypted, which is not supported; encrypt inside the guest instead")
	case h.incompatible&incompatCorrupt != 0:
		return Info{}, errors.New("the qcow2 image is marked corrupt; repair it with: qemu-img check -r all disk.qcow2")
	case h.incompatible&^(incompatDirty|incompatCompression|incompatExtendedL2) != 0:
		return Info{}, fmt.Errorf("the qcow2 image uses features this version does not know (%#x)", h.incompatible)
	case h.size > MaxVirtualSize:
		return Info{}, tooLarge(h.size)
	case h.size == 0:
		return Info{}, errors.New("the qcow2 image has a virtual size of 0")
	}
	if err := h.checkTables(uint64(fileSize)); err != nil {
		return Info{}, err
	}
	if err := h.checkExtensions(head); err != nil {
		return Info{}, err
	}
	return Info{Format: QCOW2, VirtualSize: int64(h.size)}, nil
}

var errCorrupt = errors.New("the qcow2 image is corrupt")

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errCorrupt, fmt.Sprintf(format, args...))
}

func parseQCOW2(b []byte) (qcow2Header, error) {
	if len(b) < headerV2 {
		return qcow2Header{}, corrupt("its header is cut short")
	}
	be := binary.BigEndian
	h := qcow2Header{
		version: be.Uint32(b[4:]), backingOffset: be.Uint64(b[8:]), clusterBits: be.Uint32(b[20:]), size: be.Uint64(b[24:]),
		crypt: be.Uint32(b[32:]), l1Size: be.Uint32(b[36:]), l1Offset: be.Uint64(b[40:]), refOffset: be.Uint64(b[48:]),
		refClusters: be.Uint32(b[56:]), snapshots: be.Uint32(b[60:]), headerLength: headerV2,
	}
	switch h.version {
	case 2:
		return h, nil
	case 3:
	default:
		return h, fmt.Errorf("the image is qcow version %d, only 2 and 3 are supported; convert it with: qemu-img convert -O qcow2 SOURCE disk.qcow2", h.version)
	}
	if len(b) < headerV3 {
		return h, corrupt("its header is cut short")
	}
	h.incompatible, h.headerLength = be.Uint64(b[72:]), be.Uint32(b[100:])
	if h.headerLength < headerV3 || h.headerLength%8 != 0 || int64(h.headerLength) > int64(len(b)) {
		return h, corrupt("its header claims a length of %d bytes", h.headerLength)
	}
	if refOrder := be.Uint32(b[96:]); refOrder > 6 {
		return h, corrupt("its reference counts have 2^%d bits", refOrder)
	}
	if h.incompatible&incompatCompression != 0 && (h.headerLength < headerV3+8 || b[104] != 1) {
		return h, corrupt("its compression type is unknown")
	}
	return h, nil
}

// checkTables makes sure that the tables QEMU reads first are inside the file and large enough for the disk.
func (h qcow2Header) checkTables(fileSize uint64) error {
	if h.clusterBits < 9 || h.clusterBits > 21 {
		return corrupt("its cluster size is 2^%d bytes", h.clusterBits)
	}
	if h.incompatible&incompatExtendedL2 != 0 && h.clusterBits < 14 {
		return corrupt("its clusters are too small for extended entries")
	}
	cluster := uint64(1) << h.clusterBits
	entry := uint64(8)
	if h.incompatible&incompatExtendedL2 != 0 {
		entry = 16
	}
	perL1 := cluster * (cluster / entry) // bytes of disk behind one entry of the first level
	need := (h.size + perL1 - 1) / perL1
	l1Bytes := uint64(h.l1Size) * 8
	switch {
	case uint64(h.l1Size) < need || l1Bytes > maxL1:
		return corrupt("its first level table has %d entries for a disk of %d bytes", h.l1Size, h.size)
	case h.l1Offset%cluster != 0 || h.l1Offset == 0 || h.l1Offset > fileSize || fileSize-h.l1Offset < l1Bytes:
		return corrupt("its first level table is outside the file, which is cut short")
	case h.refClusters == 0 || uint64(h.refClusters)*cluster > maxRefTable:
		return corrupt("its reference count table has %d clusters", h.refClusters)
	case h.refOffset%cluster != 0 || h.refOffset == 0 || h.refOffset >= fileSize:
		return corrupt("its reference count table is outside the file, which is cut short")
	case h.snapshots > maxSnapshots:
		return corrupt("it claims %d snapshots", h.snapshots)
	}
	return nil
}

// checkExtensions walks the header's extensions. Those that name other files or keys are refused even where the flag that should
// go with them is missing.
func (h qcow2Header) checkExtensions(head []byte) error {
	limit := min(uint64(len(head)), uint64(1)<<h.clusterBits)
	at := uint64(h.headerLength)
	for range maxExtensions {
		if at+8 > limit {
			return nil // the header's cluster is full: there is no end mark
		}
		kind, length := binary.BigEndian.Uint32(head[at:]), uint64(binary.BigEndian.Uint32(head[at+4:]))
		at += 8
		switch kind {
		case extEnd:
			return nil
		case extExternalData:
			return errors.New("the qcow2 image names an external data file, which is not allowed")
		case extEncryption:
			return errors.New("the qcow2 image is encrypted, which is not supported; encrypt inside the guest instead")
		case extBackingName:
			return errors.New("the qcow2 image names the format of a backing file, which is not allowed; flatten it with: qemu-img convert -O qcow2 SOURCE disk.qcow2")
		}
		if length > limit || at+length > limit {
			return corrupt("a header extension is %d bytes long", length)
		}
		at += (length + 7) / 8 * 8
	}
	return corrupt("it has more than %d header extensions", maxExtensions)
}
