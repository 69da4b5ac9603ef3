// Package sparse presents a raw disk image as a qcow2 image of the same disk that leaves the zeros out, so that they need not be sent.
//
// The qcow2 image is never stored: it is read at any place out of the raw file and a map of its zeros. Its bytes depend on nothing but the
// disk's content, so that it can be sent from any offset on, again, and compared by its digest. It can be unpacked in order: each table
// comes right before the clusters that it maps, and these are in the disk's order.
package sparse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
)

const (
	clusterBits = 16
	// cluster is the unit in which zeros are left out, bytes. It is qemu's default: smaller ones would find few more zeros in a file system
	// and make longer tables; one table of larger ones would map more than is worth it.
	cluster = 1 << clusterBits
	// perTable is how many clusters one table maps: 512 MiB.
	perTable = cluster / 8
	// maxSize is the largest disk that is presented. The upload server keeps all tables in mind that are still to come, and has bounds; Linux has
	// larger files, full of holes, whose map alone would fill the memory.
	maxSize = int64(1) << 45
	// sampledAbove is the size from which on a few clusters are looked at before all are: to read through a large file that has no zeros
	// would cost more time than a small one's is worth.
	sampledAbove = int64(4) << 30
	samples      = 1024
)

// pays is the rule when a disk is presented this way: an eighth of its bytes at least need not be sent.
func pays(length, size int64) bool { return size-length >= size/8 && length < size }

// likely tells by a sample whether looking at the whole disk makes sense: half of what would pay.
func likely(zeros int) bool { return zeros >= samples/16 }

// Of presents the raw image in f, a regular file of size bytes. It is nil where that does not pay. It reads the file's data once, and none
// of its holes; what is written to the file afterwards makes the image inconsistent.
func Of(ctx context.Context, f *os.File, size int64) (*Image, error) {
	return of(ctx, f, func(off int64) (int64, int64) { return nextData(f, off, size) }, size)
}

func of(ctx context.Context, r io.ReaderAt, next extents, size int64) (*Image, error) {
	if size > maxSize {
		return nil, nil
	}
	if size > sampledAbove {
		zeros, err := sample(ctx, r, next, size)
		if err != nil || !likely(zeros) {
			return nil, err
		}
	}
	m, err := scan(ctx, r, next, size)
	if err != nil {
		return nil, err
	}
	if image := newImage(r, m); pays(image.Size(), size) {
		return image, nil
	}
	return nil, nil
}

// extents gives the first part of a file at off or after it that may hold data, from its first byte to the one after its last. Where no
// data is left, from is the file's size.
type extents func(off int64) (from, to int64)

// blocks tells which clusters of a disk hold data.
type blocks struct {
	size   int64
	groups []group
}

// group is what one table maps, a bit for each cluster; nil when all are zero.
type group []uint64

func newBlocks(size int64) *blocks {
	clusters := (size + cluster - 1) / cluster
	return &blocks{size: size, groups: make([]group, (clusters+perTable-1)/perTable)}
}

func (m *blocks) set(n int64) {
	g := &m.groups[n/perTable]
	if *g == nil {
		*g = make(group, perTable/64)
	}
	(*g)[n%perTable/64] |= 1 << (n % 64)
}

func (g group) has(n int) bool { return g != nil && g[n/64]>>(n%64)&1 == 1 }

// count is how many clusters hold data.
func (g group) count() int64 {
	n := 0
	for _, word := range g {
		n += bits.OnesCount64(word)
	}
	return int64(n)
}

// find is the place of data cluster k, counted from 0, and how many more follow it without a gap, itself included.
func (g group) find(k int) (at, run int) {
	for i, word := range g {
		if n := bits.OnesCount64(word); k >= n {
			k -= n
			continue
		}
		for ; k > 0; k-- {
			word &= word - 1
		}
		at = i*64 + bits.TrailingZeros64(word)
		break
	}
	for end := at; ; {
		if end == perTable {
			return at, end - at
		}
		ones := bits.TrailingZeros64(^(g[end/64] >> (end % 64)))
		end += ones
		if ones == 0 || end%64 != 0 {
			return at, end - at
		}
	}
}

const piece = 1 << 20

// scan reads the disk and finds its zeros. Holes are known without reading them; zeros that were written, as dd does, are not.
func scan(ctx context.Context, r io.ReaderAt, next extents, size int64) (*blocks, error) {
	m := newBlocks(size)
	buffer := make([]byte, piece)
	for off := int64(0); off < size; {
		from, to := next(off)
		at := max(off, from&^(cluster-1))
		off = min(size, (max(to, at+1)+cluster-1)&^(cluster-1))
		for at < off && from < size {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			b := buffer[:min(piece, off-at)]
			if err := readFull(r, b, at); err != nil {
				return nil, err
			}
			for ; len(b) > 0; b = b[min(cluster, len(b)):] {
				if !isZero(b[:min(cluster, len(b))]) {
					m.set(at / cluster)
				}
				at += int64(min(cluster, len(b)))
			}
		}
	}
	return m, nil
}

// sample counts the zeros among clusters that are spread over the disk.
func sample(ctx context.Context, r io.ReaderAt, next extents, size int64) (int, error) {
	zeros := 0
	buffer := make([]byte, cluster)
	for i := range uint64(samples) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		// The golden ratio spreads them evenly, and in step with no pattern of the disk's.
		n, _ := bits.Mul64(i*0x9e3779b97f4a7c15, uint64(size/cluster))
		at := int64(n) * cluster
		if from, _ := next(at); from < at+cluster {
			if err := readFull(r, buffer, at); err != nil {
				return 0, err
			}
			if !isZero(buffer) {
				continue
			}
		}
		zeros++
	}
	return zeros, nil
}

// readFull fills b; a file that ends before its size has been cut short meanwhile.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read the disk at byte %d: %w", off+int64(n), err)
}
