package stream

import (
	"container/heap"
	"fmt"

	"virtctl/internal/cdi/image"
)

const (
	// maxExtents bounds the part of a mapping that waits for its data.
	maxExtents = 512 << 10
	// maxRegions bounds how many tables are known and not read yet.
	maxRegions = 256 << 10
	// tablePiece is how much of a table is looked at in one go; every entry size divides it.
	tablePiece = 64 << 10
)

// extent says that bytes of the image are bytes of the disk.
type extent struct {
	phys, virt int64
	n          int64
	packed     bool // compressed: n bytes of the image make one cluster, and the last sector may belong to the next one too
}

// region is a table in the image.
type region struct {
	off, end int64
	kind     regionKind
	arg      int64 // what the table's first entry is about
}

type regionKind uint8

// The kinds of tables. A skipped region is known to hold nothing that matters.
const (
	regionSkip regionKind = iota
	regionL1
	regionL2
	regionRefcounts
	regionBlocks
)

// tables is what a format knows: how to read its tables and unpack its clusters.
type tables interface {
	// parse reads whole entries of a region, of which the first is about arg, and adds what it finds.
	parse(d *mapped, kind regionKind, arg int64, b []byte) error
	// entrySize of a kind, in bytes.
	entrySize(kind regionKind) int64
	// cluster is the unit in which data is allocated.
	cluster() int64
	unpack() unpacker
	format() image.Format
	virtual() int64
	// header is what is needed to make the value again.
	header() any
}

// mapped decodes formats that have tables from places in the file to places on the disk. It works as long as a table comes
// before the data that it maps; pieces of data that come a little before their table wait in a bounded store.
type mapped struct {
	src     *source
	eng     *engine
	tab     tables
	pos     int64 // everything before it is handled
	regions regionHeap
	extents extentHeap
	unread  int // tables that may still map something
	early   early
	run     extent // grows while a table's entries follow each other
	torn    bool   // a table was left half-read: there is nothing to go on from
}

func (d *mapped) offset() int64        { return d.pos }
func (d *mapped) virtual() int64       { return d.tab.virtual() }
func (d *mapped) format() image.Format { return d.tab.format() }

// step handles about a chunk of the source.
func (d *mapped) step() (bool, error) {
	for limit := d.pos + chunkSize; d.pos < limit; {
		switch {
		case len(d.regions) > 0 && d.regions[0].off <= d.pos:
			if err := d.readRegion(); err != nil {
				return false, err
			}
		case len(d.extents) > 0 && d.extents[0].phys <= d.pos:
			if err := d.readExtent(); err != nil {
				return false, err
			}
		case len(d.regions) == 0 && len(d.extents) == 0:
			return true, nil
		default:
			if err := d.gap(d.next()); err != nil {
				return false, err
			}
		}
		d.src.advance(d.pos)
	}
	return false, nil
}

// next is where the next known thing begins.
func (d *mapped) next() int64 {
	next := int64(1)<<62 - 1
	if len(d.regions) > 0 {
		next = d.regions[0].off
	}
	if len(d.extents) > 0 {
		next = min(next, d.extents[0].phys)
	}
	return next
}

// gap passes over bytes that no table has named yet.
func (d *mapped) gap(next int64) error {
	v := d.src.chunkAt(d.pos)
	defer v.release()
	if len(v.b) == 0 {
		return d.ended()
	}
	b := v.b[:min(int64(len(v.b)), next-d.pos)]
	if d.unread > 0 {
		d.early.keep(d.pos, b)
	}
	d.pos += int64(len(b))
	return nil
}

// ended explains a source that stops while something is missing.
func (d *mapped) ended() error {
	if err := d.src.failure(); err != nil {
		return err
	}
	return d.corrupt("it ends at offset %d, before its data does", d.src.have)
}

func (d *mapped) corrupt(format string, args ...any) error {
	return &image.CorruptError{Format: d.tab.format(), Detail: fmt.Sprintf(format, args...)}
}

func (d *mapped) needsSpool(reason string) error {
	return &NeedsSpoolError{Format: d.tab.format(), Reason: reason}
}

// addRegion announces a table.
func (d *mapped) addRegion(r region) error {
	if r.kind == regionSkip {
		if len(d.regions) < maxRegions/2 && r.off >= d.pos {
			heap.Push(&d.regions, r)
		}
		return nil
	}
	if len(d.regions) >= maxRegions {
		return d.needsSpool("it has too many tables")
	}
	d.unread++
	heap.Push(&d.regions, r)
	return nil
}

// readRegion reads some of the first table.
func (d *mapped) readRegion() error {
	r := &d.regions[0]
	if r.kind == regionSkip {
		return d.skipRegion()
	}
	want := min(r.end-r.off, tablePiece)
	late := r.off < d.pos
	v, err := d.fetch(r.off, want)
	if err != nil {
		return err
	}
	defer v.release()
	size := d.tab.entrySize(r.kind)
	b := v.b[:int64(len(v.b))/size*size]
	if int64(len(v.b)) < want && (late || d.src.failure() != nil || len(b) == 0) {
		return d.ended()
	}
	if int64(len(v.b)) < want {
		return d.corrupt("it ends inside a table at offset %d", d.src.have)
	}
	kind, arg := r.kind, r.arg
	r.off += int64(len(b))
	r.arg += int64(len(b)) / size
	if !late {
		d.pos = r.off
	}
	if r.off >= r.end {
		heap.Pop(&d.regions)
		d.unread--
	} else {
		heap.Fix(&d.regions, 0)
	}
	d.torn = true
	if err := d.tab.parse(d, kind, arg, b); err != nil {
		return err
	}
	if err := d.flushRun(); err != nil {
		return err
	}
	d.torn = false
	if d.unread == 0 {
		d.early.clear()
	}
	return nil
}

// skipRegion moves on to the end of a region without content, or to what lies inside it.
func (d *mapped) skipRegion() error {
	r := heap.Pop(&d.regions).(region)
	for end := min(r.end, max(d.pos, d.next())); d.pos < end; {
		v := d.src.chunkAt(d.pos)
		n := int64(len(v.b))
		v.release()
		if n == 0 {
			if err := d.src.failure(); err != nil {
				heap.Push(&d.regions, r)
				return err
			}
			return nil // only what comes after it is missing, if anything does
		}
		d.pos = min(end, d.pos+n)
		d.src.advance(d.pos)
	}
	return nil
}

// add maps n bytes of the image; neighbours become one extent.
func (d *mapped) add(x extent) error {
	if !x.packed && !d.run.packed && d.run.n > 0 && d.run.phys+d.run.n == x.phys && d.run.virt+d.run.n == x.virt {
		d.run.n += x.n
		return nil
	}
	if err := d.flushRun(); err != nil {
		return err
	}
	d.run = x
	return nil
}

func (d *mapped) flushRun() error {
	x := d.run
	d.run = extent{}
	switch {
	case x.n == 0:
		return nil
	case x.phys < d.pos:
		return d.lateExtent(x)
	case len(d.extents) >= maxExtents:
		return d.needsSpool("its data is scattered too much")
	}
	heap.Push(&d.extents, x)
	return nil
}

// readExtent writes the first extent's data, or as much as is here.
func (d *mapped) readExtent() error {
	x := heap.Pop(&d.extents).(extent)
	if x.phys < d.pos {
		return d.lateExtent(x)
	}
	if x.packed {
		v := d.src.view(x.phys, int(x.n))
		if int64(len(v.b)) < x.n && (d.src.failure() != nil || len(v.b) == 0) {
			v.release()
			heap.Push(&d.extents, x)
			return d.ended()
		}
		d.eng.submit(job{src: v, off: x.virt, then: d.tab.unpack()})
		d.pos = max(d.pos, min(x.phys+x.n-image.SectorSize, d.next(), d.src.have))
		return nil
	}
	return d.readPlain(x)
}

func (d *mapped) readPlain(x extent) error {
	v := d.src.chunkAt(x.phys)
	if len(v.b) == 0 {
		heap.Push(&d.extents, x)
		return d.endedIn(x)
	}
	n := min(int64(len(v.b)), x.n)
	next := d.next()
	if next > d.pos {
		n = min(n, next-d.pos)
	} else if len(d.extents) > 0 && d.extents[0].phys == d.pos {
		n = min(n, d.extents[0].n) // two extents share their data
	}
	v.b = v.b[:n]
	d.eng.submit(job{src: v, off: x.virt})
	if x.n > n {
		heap.Push(&d.extents, extent{phys: x.phys + n, virt: x.virt + n, n: x.n - n})
	}
	if d.next() > d.pos {
		d.pos += n
	}
	return nil
}

// endedIn allows the last cluster of a file to be cut short: it reads as zeros from there, as qemu has it.
func (d *mapped) endedIn(x extent) error {
	if err := d.src.failure(); err != nil {
		return err
	}
	if len(d.extents) > 1 || len(d.regions) > 0 || x.n >= d.tab.cluster() || x.phys != d.src.have {
		return d.ended()
	}
	heap.Pop(&d.extents)
	return nil
}

// lateExtent takes data that came before its mapping from the store.
func (d *mapped) lateExtent(x extent) error {
	for x.n > 0 {
		n := x.n
		if !x.packed {
			n = min(n, chunkSize)
		}
		v, err := d.fetch(x.phys, n)
		if err != nil {
			return err
		}
		j := job{src: v, off: x.virt}
		if err := d.src.failure(); err != nil && int64(len(v.b)) < n {
			v.release()
			return err
		}
		if x.packed {
			j.then = d.tab.unpack()
		} else if int64(len(v.b)) < n {
			v.release()
			return d.missing(x.phys)
		}
		d.eng.submit(j)
		x = extent{phys: x.phys + n, virt: x.virt + n, n: x.n - n}
	}
	return nil
}

func (d *mapped) missing(off int64) error {
	if d.early.dropped {
		return d.needsSpool("its data comes too long before the table that maps it")
	}
	return d.corrupt("its tables name offset %d twice", off)
}

// fetch gives up to n bytes at off, whether they are in the store, still to come, or both.
func (d *mapped) fetch(off, n int64) (view, error) {
	if off >= d.pos {
		return d.src.view(off, int(n)), nil
	}
	b, err := d.early.get(off, min(n, d.pos-off))
	if err != nil {
		return view{}, err
	}
	if len(b) == 0 {
		return view{}, d.missing(off)
	}
	if end := off + int64(len(b)); end == d.pos && end < off+n {
		v := d.src.view(end, int(off+n-end))
		b = append(b, v.b...)
		v.release()
	}
	return view{b: b}, nil
}

// extentHeap orders extents by their place in the image.
type extentHeap []extent

func (h extentHeap) Len() int           { return len(h) }
func (h extentHeap) Less(i, j int) bool { return h[i].phys < h[j].phys }
func (h extentHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *extentHeap) Push(x any)        { *h = append(*h, x.(extent)) }
func (h *extentHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

type regionHeap []region

func (h regionHeap) Len() int           { return len(h) }
func (h regionHeap) Less(i, j int) bool { return h[i].off < h[j].off }
func (h regionHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *regionHeap) Push(x any)        { *h = append(*h, x.(region)) }
func (h *regionHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}
