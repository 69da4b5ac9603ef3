package image

import (
	"encoding/binary"
	"fmt"
	"io"
)

const (
	newClusterBits = 16
	newCluster     = 1 << newClusterBits
	// maxBackingName is QEMU's own limit.
	maxBackingName = 1023
)

// Backing is the image below a new one.
type Backing struct {
	Path   string
	Format Format
}

// WriteQCOW2 writes an empty qcow2 image of a virtual size, on top of backing if that is set. It does what `qemu-img create`
// does, without starting a program. w must be empty and becomes 4 to 5 clusters long (256 KiB and a little, most of it holes).
func WriteQCOW2(w interface {
	io.WriterAt
	Truncate(size int64) error
}, virtualSize int64, backing *Backing,
) error {
	if virtualSize <= 0 || virtualSize > MaxVirtualSize {
		return fmt.Errorf("a disk of %d bytes cannot be created", virtualSize)
	}
	if backing != nil && (backing.Path == "" || len(backing.Path) > maxBackingName) {
		return fmt.Errorf("the path of the image below is %d characters long, the limit is %d", len(backing.Path), maxBackingName)
	}
	const perL1 = newCluster * (newCluster / 8)
	l1Entries := (virtualSize + perL1 - 1) / perL1
	l1Clusters := (l1Entries*8 + newCluster - 1) / newCluster
	clusters := 3 + l1Clusters // header, reference count table, one block of counts, first level table
	if err := w.Truncate(clusters * newCluster); err != nil {
		return fmt.Errorf("create a qcow2 image: %w", err)
	}
	table := binary.BigEndian.AppendUint64(nil, 2*newCluster)
	var counts []byte
	for range clusters {
		counts = binary.BigEndian.AppendUint16(counts, 1)
	}
	for _, part := range []struct {
		at   int64
		data []byte
	}{
		{newCluster, table}, {2 * newCluster, counts}, {0, newHeader(virtualSize, uint32(l1Entries), backing)},
	} {
		if _, err := w.WriteAt(part.data, part.at); err != nil {
			return fmt.Errorf("create a qcow2 image: %w", err)
		}
	}
	return nil
}

func newHeader(virtualSize int64, l1Entries uint32, backing *Backing) []byte {
	be := binary.BigEndian
	h := make([]byte, headerV3+8)
	copy(h, qcow2Magic)
	be.PutUint32(h[4:], 3)
	be.PutUint32(h[20:], newClusterBits)
	be.PutUint64(h[24:], uint64(virtualSize+sectorSize-1)/sectorSize*sectorSize)
	be.PutUint32(h[36:], l1Entries)
	be.PutUint64(h[40:], 3*newCluster)
	be.PutUint64(h[48:], newCluster)
	be.PutUint32(h[56:], 1)
	be.PutUint32(h[96:], 4) // 16 bit reference counts
	be.PutUint32(h[100:], headerV3+8)
	if backing != nil {
		h = be.AppendUint32(h, extBackingName)
		h = be.AppendUint32(h, uint32(len(backing.Format)))
		h = append(h, backing.Format...)
		for len(h)%8 != 0 {
			h = append(h, 0)
		}
	}
	h = append(h, 0, 0, 0, 0, 0, 0, 0, 0) // end of extensions
	if backing != nil {
		be.PutUint64(h[8:], uint64(len(h)))
		be.PutUint32(h[16:], uint32(len(backing.Path)))
		h = append(h, backing.Path...)
	}
	return h
}
