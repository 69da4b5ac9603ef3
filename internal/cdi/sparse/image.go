package sparse

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"sort"
)

const (
	// The qcow2 image's first clusters: its header, then the first table.
	firstTable = 1
	// perRefcounts is how many clusters one block of 16-bit reference counts is about, perRefcountTable how many blocks one cluster names.
	perRefcounts     = cluster / 2
	perRefcountTable = cluster / 8
	sector           = 512
	// copied marks an entry whose cluster is referred to once.
	copied = uint64(1) << 63
)

// Image is a raw disk as a qcow2 image. It may be read from several goroutines.
type Image struct {
	disk io.ReaderAt
	data *blocks
	// refcountTable, refcounts and body are the first clusters of the parts after the first table.
	refcountTable, refcounts, body int64
	// tables are the clusters in which the tables of the groups lie, each followed by its data. A group without data has the next one's.
	tables   []int64
	clusters int64
}

func newImage(disk io.ReaderAt, data *blocks) *Image {
	i := &Image{disk: disk, data: data, tables: make([]int64, len(data.groups))}
	for n, g := range data.groups {
		i.tables[n] = i.clusters
		if g != nil {
			i.clusters += 1 + g.count()
		}
	}
	i.refcountTable = firstTable + ceil(int64(len(data.groups)), perTable)
	// The reference counts are about themselves as well: their number grows until it is enough.
	blocks, table := int64(1), int64(1)
	for {
		all := i.refcountTable + table + blocks + i.clusters
		needed := ceil(all, perRefcounts)
		if blocks >= needed && table >= ceil(blocks, perRefcountTable) {
			break
		}
		blocks = max(blocks, needed)
		table = ceil(blocks, perRefcountTable)
	}
	i.refcounts = i.refcountTable + table
	i.body = i.refcounts + blocks
	for n := range i.tables {
		i.tables[n] += i.body
	}
	i.clusters += i.body
	return i
}

func ceil(n, unit int64) int64 { return (n + unit - 1) / unit }

// Size is the length of the qcow2 image in bytes.
func (i *Image) Size() int64 { return i.clusters * cluster }

// Fingerprint tells this image's layout from another one's: which zeros it leaves out, and how.
func (i *Image) Fingerprint() string {
	sum := sha256.New()
	sum.Write(i.header())
	for n, g := range i.data.groups {
		if g != nil {
			_ = binary.Write(sum, binary.BigEndian, int64(n))
			_ = binary.Write(sum, binary.BigEndian, g)
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

var errNegative = errors.New("read before the image's beginning")

// ReadAt reads the qcow2 image at any place.
func (i *Image) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errNegative
	}
	done := 0
	for done < len(p) {
		n, err := i.read(p[done:], off+int64(done))
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// read gives some bytes, one at least.
func (i *Image) read(p []byte, off int64) (int, error) {
	n, in := off/cluster, off%cluster
	switch {
	case n >= i.clusters:
		return 0, io.EOF
	case n < i.body:
		return copy(p, i.beginning(n)[in:]), nil
	}
	group := sort.Search(len(i.tables), func(k int) bool { return i.tables[k] > n }) - 1
	if n == i.tables[group] {
		return copy(p, i.table(group)[in:]), nil
	}
	at, run := i.data.groups[group].find(int(n - i.tables[group] - 1))
	p = p[:min(int64(len(p)), int64(run)*cluster-in)]
	from := (int64(group)*perTable+int64(at))*cluster + in
	// The last cluster goes on behind the disk's end with zeros.
	there := max(0, min(int64(len(p)), i.data.size-from))
	if err := readFull(i.disk, p[:there], from); err != nil {
		return 0, err
	}
	clear(p[there:])
	return len(p), nil
}

// beginning makes a cluster of those before the first data.
func (i *Image) beginning(n int64) []byte {
	b := make([]byte, cluster)
	switch {
	case n < firstTable:
		copy(b, i.header())
	case n < i.refcountTable:
		first := int(n-firstTable) * perTable
		for k := range min(perTable, len(i.tables)-first) {
			if i.data.groups[first+k] != nil {
				put(b, k, uint64(i.tables[first+k])*cluster|copied)
			}
		}
	case n < i.refcounts:
		first := (n - i.refcountTable) * perRefcountTable
		for k := range min(perRefcountTable, i.body-i.refcounts-first) {
			put(b, int(k), uint64(i.refcounts+first+k)*cluster)
		}
	default:
		first := (n - i.refcounts) * perRefcounts
		for k := range min(perRefcounts, i.clusters-first) {
			b[2*k+1] = 1
		}
	}
	return b
}

// table maps the clusters of a group.
func (i *Image) table(n int) []byte {
	b := make([]byte, cluster)
	next := uint64(i.tables[n]+1) * cluster
	for k := range perTable {
		if i.data.groups[n].has(k) {
			put(b, k, next|copied)
			next += cluster
		}
	}
	return b
}

func put(table []byte, n int, entry uint64) { binary.BigEndian.PutUint64(table[8*n:], entry) }

// header is a qcow2 header of version 3 without any extension.
func (i *Image) header() []byte {
	be := binary.BigEndian
	b := []byte("QFI\xfb")
	b = be.AppendUint32(b, 3)
	b = append(b, make([]byte, 12)...) // no backing file
	b = be.AppendUint32(b, clusterBits)
	b = be.AppendUint64(b, uint64(ceil(i.data.size, sector)*sector))
	b = be.AppendUint32(b, 0) // no encryption
	b = be.AppendUint32(b, uint32(len(i.tables)))
	b = be.AppendUint64(b, firstTable*cluster)
	b = be.AppendUint64(b, uint64(i.refcountTable)*cluster)
	b = be.AppendUint32(b, uint32(i.refcounts-i.refcountTable))
	b = append(b, make([]byte, 12+24)...) // no snapshots, no features
	b = be.AppendUint32(b, 4)             // counts of 2^4 bits
	return be.AppendUint32(b, uint32(len(b)+4))
}

// zeros is compared with.
var zeros [cluster]byte

func isZero(b []byte) bool { return bytes.Equal(b, zeros[:len(b)]) }
