package stream

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"virtctl/internal/cdi/image"
)

// vmdkHeader is what decoding a VMDK needs of its header.
type vmdkHeader struct {
	Size, Grain int64
	// PerTable is how many grains a grain table maps.
	PerTable int64
}

// openVMDK chooses between the two kinds of sparse extents.
func (r *run) openVMDK(head []byte) (decoder, error) {
	h, err := image.ParseVMDK(head)
	if err != nil {
		return nil, err
	}
	if end := h.DescriptorOffset + h.DescriptorSize; end > maxDescriptorEnd {
		return nil, &NeedsSpoolError{Format: image.VMDK, Reason: "its descriptor is far from its header"}
	}
	if h.DescriptorOffset > 0 && h.DescriptorSize > 0 {
		v := r.src.view(h.DescriptorOffset, int(h.DescriptorSize))
		_, err := image.CheckVMDKDescriptor(v.b)
		v.release()
		if err = errors.Join(r.src.failure(), err); err != nil {
			return nil, err
		}
	}
	hdr := vmdkHeader{Size: h.Size, Grain: h.GrainSize, PerTable: h.GTEntries}
	if h.Markers && h.Compressed && h.Overhead > 0 {
		return &grainDecoder{src: r.src, eng: r.eng, h: hdr, pos: h.Overhead}, nil
	}
	if h.Compressed || h.GDOffset <= 0 {
		return nil, &NeedsSpoolError{Format: image.VMDK, Reason: "its tables are at its end"}
	}
	d := r.newMapped()
	d.tab = &vmdkTables{H: hdr}
	cover := hdr.PerTable * hdr.Grain
	n := (hdr.Size + cover - 1) / cover
	if n == 0 {
		return d, nil
	}
	return d, d.addRegion(region{off: h.GDOffset, end: h.GDOffset + n*4, kind: regionL1})
}

// maxDescriptorEnd is how far the descriptor may reach: it must fit in the window with the header.
const maxDescriptorEnd = 2 << 20

// vmdkTables reads grain directory and grain tables.
type vmdkTables struct{ H vmdkHeader }

func (t *vmdkTables) format() image.Format       { return image.VMDK }
func (t *vmdkTables) virtual() int64             { return t.H.Size }
func (t *vmdkTables) cluster() int64             { return t.H.Grain }
func (t *vmdkTables) header() any                { return t.H }
func (t *vmdkTables) entrySize(regionKind) int64 { return 4 }
func (t *vmdkTables) unpack() unpacker           { return nil }

// vmdkZeroGrain is an entry that says "zeros" in images that use it; no grain can be in the second sector of any image.
const vmdkZeroGrain = 1

func (t *vmdkTables) parse(d *mapped, kind regionKind, arg int64, b []byte) error {
	for i := 0; i+4 <= len(b); i += 4 {
		e := int64(binary.LittleEndian.Uint32(b[i:]))
		if e <= vmdkZeroGrain {
			continue
		}
		n, off := arg+int64(i/4), e*image.SectorSize
		var err error
		if kind == regionL1 {
			err = d.addRegion(region{off: off, end: off + t.H.PerTable*4, kind: regionL2, arg: n * t.H.PerTable})
		} else if virt := n * t.H.Grain; virt < t.H.Size {
			err = d.add(extent{phys: off, virt: virt, n: min(t.H.Grain, t.H.Size-virt)})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// grainDecoder reads a streamOptimized VMDK: every grain and every table has a marker before it.
type grainDecoder struct {
	src *source
	eng *engine
	h   vmdkHeader
	pos int64
	to  int64 // end of a table that is being passed over
}

const (
	markerHeader   = 16
	grainHeader    = 12
	markerEnd      = 0
	markerMax      = 3 // table, directory, footer
	markerMaxBytes = 64 << 20
)

func (d *grainDecoder) step() (bool, error) {
	if d.pos < d.to {
		return false, d.skip()
	}
	v := d.src.view(d.pos, markerHeader)
	defer v.release()
	if len(v.b) < markerHeader {
		return d.ended(len(v.b))
	}
	le := binary.LittleEndian
	lba, size, kind := le.Uint64(v.b), int64(le.Uint32(v.b[8:])), le.Uint32(v.b[12:])
	if size > 0 {
		return false, d.grain(lba, size)
	}
	if kind == markerEnd {
		d.move(d.pos + image.SectorSize)
		return true, d.src.failure()
	}
	if kind > markerMax || lba > markerMaxBytes/image.SectorSize {
		return false, d.corrupt("a marker of kind %d", kind)
	}
	d.to = d.pos + image.SectorSize + int64(lba)*image.SectorSize
	return false, d.skip()
}

func (d *grainDecoder) grain(lba uint64, size int64) error {
	if lba > uint64(d.h.Size/image.SectorSize) || size > 2*d.h.Grain+1024 {
		return d.corrupt("a grain of %d bytes for sector %d", size, lba)
	}
	v := d.src.view(d.pos+grainHeader, int(size))
	if int64(len(v.b)) < size {
		v.release()
		_, err := d.ended(1)
		return err
	}
	n := int(d.h.Grain)
	d.eng.submit(job{
		src: v, off: int64(lba) * image.SectorSize,
		then: func(w *worker, b []byte) ([]byte, error) { return w.inflateZlib(image.VMDK, b, n) },
	})
	d.move(image.Align(d.pos + grainHeader + size))
	return nil
}

// skip passes over a table, which repeats what the markers say.
func (d *grainDecoder) skip() error {
	for d.pos < d.to {
		v := d.src.chunkAt(d.pos)
		n := int64(len(v.b))
		v.release()
		if n == 0 {
			_, err := d.ended(1)
			return err
		}
		d.move(min(d.to, d.pos+n))
	}
	return nil
}

func (d *grainDecoder) move(to int64) {
	d.pos = to
	d.src.advance(to)
}

// ended is good between grains only: qemu-img writes no marker at the end. The last sector need not be filled up.
func (d *grainDecoder) ended(left int) (bool, error) {
	switch err := d.src.failure(); {
	case err != nil:
		return false, err
	case left > 0:
		return false, d.corrupt("it ends inside a grain, at offset %d", d.src.have)
	}
	d.pos = d.src.have
	return true, nil
}

func (d *grainDecoder) corrupt(format string, args ...any) error {
	return &image.CorruptError{Format: image.VMDK, Detail: fmt.Sprintf(format, args...)}
}

func (d *grainDecoder) offset() int64 { return d.pos }

func (d *grainDecoder) state() ([]byte, error) { return json.Marshal(grainState{d.h, d.to}) }

type grainState struct {
	Header vmdkHeader `json:"header"`
	To     int64      `json:"to"`
}

func (d *grainDecoder) virtual() int64       { return d.h.Size }
func (d *grainDecoder) format() image.Format { return grains }

// grains tells the checkpoints of the two kinds of VMDK apart.
const grains = image.Format("vmdk-stream")

func restoreGrains(c *Checkpoint, src *source, eng *engine) (*grainDecoder, error) {
	d := &grainDecoder{src: src, eng: eng, pos: c.Offset}
	var s grainState
	err := json.Unmarshal(c.State, &s)
	if d.h, d.to = s.Header, s.To; err == nil && d.h.Grain <= 0 {
		err = errors.New("it has no size of grains")
	}
	if err != nil {
		return nil, fmt.Errorf("the checkpoint is damaged; start again: %w", err)
	}
	return d, nil
}
