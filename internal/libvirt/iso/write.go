package iso

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"sort"
	"time"
	"unicode/utf16"
)

const (
	sector = 2048
	// padding ends every image, as the usual programs do: drives and small readers (busybox) read ahead of what they want.
	// The end is at a whole 4 KiB, for storage with blocks of that size.
	padding = 150
)

// The two trees of an image.
const (
	plain = iota
	joliet
)

// What follows is ECMA-119, the Joliet specification, and the Rock Ridge Interchange Protocol.
type image struct {
	root  *node
	label string
	when  time.Time
	dirs  [2][]*node // in path table order
	// table is where the little endian path table of a tree is; the big endian one follows it.
	table     [2]uint32
	tableSize [2]uint32
	// continuation is where Rock Ridge entries go that do not fit into a directory record.
	continuation       uint32
	continuationLength uint32
	total              uint32
	tail               uint32 // empty sectors at the end
}

// Write writes an image with files.
func Write(w io.Writer, label string, when time.Time, files []File) error {
	if err := checkLabel(label); err != nil {
		return fmt.Errorf("make an ISO image: %w", err)
	}
	root, err := buildTree(files)
	if err != nil {
		return fmt.Errorf("make an ISO image: %w", err)
	}
	img := &image{root: root, label: label, when: when.UTC()}
	img.layout()
	return img.write(w)
}

func sectors(bytes uint32) uint32 { return (bytes + sector - 1) / sector }

// layout decides where everything is: descriptors, path tables, directories, continuation area, files.
func (img *image) layout() {
	next := uint32(19)
	for tree := range 2 {
		img.dirs[tree] = img.order(tree)
		img.tableSize[tree] = uint32(len(img.pathTable(tree, binary.LittleEndian)))
		img.table[tree] = next
		next += 2 * sectors(img.tableSize[tree])
	}
	// The continuation area comes first, because directories refer into it; its length does not depend on where it is.
	var area []byte
	for _, d := range img.dirs[plain] {
		img.directory(d, plain, &area)
	}
	img.continuation, img.continuationLength = next, uint32(len(area))
	next += sectors(img.continuationLength)
	for tree := range 2 {
		for _, d := range img.dirs[tree] {
			var ignored []byte
			d.extent[tree], d.size[tree] = next, uint32(len(img.directory(d, tree, &ignored)))
			next += sectors(d.size[tree])
		}
	}
	for _, d := range img.dirs[plain] {
		for _, f := range d.children {
			if !f.dir {
				size := uint32(len(f.content))
				f.extent, f.size = [2]uint32{next, next}, [2]uint32{size, size}
				next += sectors(size)
			}
		}
	}
	img.tail = padding + (next+padding)%2
	img.total = next + img.tail
}

// order lists directories as the path table wants them: by depth, parent and identifier.
func (img *image) order(tree int) []*node {
	dirs := []*node{img.root}
	for i := 0; i < len(dirs); i++ {
		dirs[i].number[tree] = uint16(i + 1)
		for _, c := range sorted(dirs[i], tree) {
			if c.dir {
				dirs = append(dirs, c)
			}
		}
	}
	return dirs
}

func sorted(d *node, tree int) []*node {
	children := append([]*node(nil), d.children...)
	sort.Slice(children, func(i, j int) bool { return bytes.Compare(children[i].id(tree), children[j].id(tree)) < 0 })
	return children
}

func (n *node) id(tree int) []byte {
	switch {
	case n.parent == nil:
		return []byte{0}
	case tree == joliet:
		return n.jolietName
	}
	return n.isoName
}

func (img *image) pathTable(tree int, order interface {
	binary.ByteOrder
	binary.AppendByteOrder
},
) []byte {
	var t []byte
	for _, d := range img.dirs[tree] {
		id, parent := d.id(tree), uint16(1)
		if d.parent != nil {
			parent = d.parent.number[tree]
		}
		t = append(t, byte(len(id)), 0)
		t = order.AppendUint32(t, d.extent[tree])
		t = order.AppendUint16(t, parent)
		t = append(t, id...)
		if len(id)%2 == 1 {
			t = append(t, 0)
		}
	}
	return t
}

// directory returns a directory's records, none of them crossing a sector; Rock Ridge entries that do not fit go to area.
func (img *image) directory(d *node, tree int, area *[]byte) []byte {
	parent := d
	if d.parent != nil {
		parent = d.parent
	}
	out := img.record([]byte{0}, d, tree, img.susp(d, tree, 1, ".", area))
	out = append(out, img.record([]byte{1}, parent, tree, img.susp(parent, tree, 1, "..", area))...)
	for _, c := range sorted(d, tree) {
		r := img.record(c.id(tree), c, tree, img.susp(c, tree, len(c.id(tree)), c.name, area))
		if room := sector - len(out)%sector; room < len(r) {
			out = append(out, make([]byte, room)...)
		}
		out = append(out, r...)
	}
	return append(out, make([]byte, (sector-len(out)%sector)%sector)...)
}

const recordSize = 33

func (img *image) record(id []byte, n *node, tree int, systemUse []byte) []byte {
	r := make([]byte, recordSize, 255)
	both32(r[2:], n.extent[tree])
	both32(r[10:], n.size[tree])
	copy(r[18:], img.shortDate())
	if n.dir {
		r[25] = 2
	}
	both16(r[28:], 1)
	r[32] = byte(len(id))
	r = append(r, id...)
	if len(r)%2 == 1 {
		r = append(r, 0)
	}
	r = append(r, systemUse...)
	if len(r)%2 == 1 {
		r = append(r, 0)
	}
	r[0] = byte(len(r))
	return r
}

func (img *image) shortDate() []byte {
	t := img.when
	return []byte{byte(t.Year() - 1900), byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second()), 0}
}

func both16(b []byte, v uint16) {
	binary.LittleEndian.PutUint16(b, v)
	binary.BigEndian.PutUint16(b[2:], v)
}

func both32(b []byte, v uint32) {
	binary.LittleEndian.PutUint32(b, v)
	binary.BigEndian.PutUint32(b[4:], v)
}

// descriptor is the primary or the supplementary (Joliet) volume descriptor.
func (img *image) descriptor(tree int) []byte {
	d := make([]byte, sector)
	d[0] = 1
	copy(d[1:], "CD001\x01")
	text := func(from, to int, s string) {
		if tree == joliet {
			b := ucs2(utf16.Encode([]rune(s)))
			for i := from; i+1 < to; i += 2 {
				d[i], d[i+1] = 0, ' '
			}
			copy(d[from:to], b[:min(len(b), (to-from)/2*2)])
			return
		}
		for i := from; i < to; i++ {
			d[i] = ' '
		}
		copy(d[from:to], s)
	}
	if tree == joliet {
		d[0] = 2
		copy(d[88:], "%/E")
	}
	text(8, 40, "LINUX")
	label := img.label
	if tree == joliet {
		label = label[:min(len(label), maxJolLabel)]
	}
	text(40, 72, label)
	both32(d[80:], img.total)
	both16(d[120:], 1)
	both16(d[124:], 1)
	both16(d[128:], sector)
	both32(d[132:], img.tableSize[tree])
	binary.LittleEndian.PutUint32(d[140:], img.table[tree])
	binary.BigEndian.PutUint32(d[148:], img.table[tree]+sectors(img.tableSize[tree]))
	copy(d[156:], img.record([]byte{0}, img.root, tree, nil))
	for _, field := range [][2]int{{190, 318}, {318, 446}, {446, 574}, {574, 702}, {702, 739}, {739, 776}, {776, 813}} {
		text(field[0], field[1], "")
	}
	date := img.when.Format("20060102150405") + "00\x00"
	copy(d[813:], date)
	copy(d[830:], date)
	copy(d[847:], "0000000000000000\x00")
	copy(d[864:], date)
	d[881] = 1
	return d
}

func (img *image) write(w io.Writer) error {
	terminator := append([]byte("\xffCD001\x01"), make([]byte, sector-7)...)
	parts := [][]byte{make([]byte, 16*sector), img.descriptor(plain), img.descriptor(joliet), terminator}
	for tree := range 2 {
		parts = append(parts, img.pathTable(tree, binary.LittleEndian), img.pathTable(tree, binary.BigEndian))
	}
	var area []byte
	var directories [][]byte
	for tree := range 2 {
		for _, d := range img.dirs[tree] {
			directories = append(directories, img.directory(d, tree, &area))
		}
	}
	parts = append(append(parts, area), directories...)
	for _, d := range img.dirs[plain] {
		for _, f := range d.children {
			if !f.dir {
				parts = append(parts, f.content)
			}
		}
	}
	parts = append(parts, make([]byte, img.tail*sector))
	zeros := make([]byte, sector)
	for _, p := range parts {
		if _, err := w.Write(p); err != nil {
			return fmt.Errorf("write an ISO image: %w", err)
		}
		if rest := len(p) % sector; rest != 0 {
			if _, err := w.Write(zeros[rest:]); err != nil {
				return fmt.Errorf("write an ISO image: %w", err)
			}
		}
	}
	return nil
}
