package stream

import (
	"virtctl/internal/cdi/image"
)

// rawDecoder writes the source as it is. The last bytes are kept back until the source's end shows that they are not the
// footer of a fixed VHD, which has no other mark.
type rawDecoder struct {
	src  *source
	eng  *engine
	kind image.Format
	pos  int64
	size int64
}

func (d *rawDecoder) step() (bool, error) {
	v := d.src.chunkAt(d.pos)
	if len(v.b) == 0 {
		d.size = image.Align(d.pos)
		return true, d.src.failure()
	}
	end := d.pos + int64(len(v.b))
	// A footer may lie across chunks: at least as much as one stays behind for the next step, from a block's border on.
	keep := (end - image.VPCFooterSize) &^ (holeBlock - 1)
	if keep <= d.pos {
		return d.tail(v)
	}
	v.b = v.b[:keep-d.pos]
	d.eng.submit(job{src: v, off: d.pos})
	d.pos = keep
	d.src.advance(d.pos)
	return false, nil
}

// tail looks at the last bytes of a chunk, which are the disk's last unless more comes.
func (d *rawDecoder) tail(v view) (bool, error) {
	v.release()
	v = d.src.view(d.pos, 2*holeBlock)
	end := d.pos + int64(len(v.b))
	if len(v.b) > image.VPCFooterSize {
		v.b = v.b[:len(v.b)-image.VPCFooterSize]
	} else if err := d.src.failure(); err != nil {
		v.release()
		return false, err
	} else if f, ok := image.ParseVPCFixed(v.b, end); ok {
		v.release()
		d.kind, d.size, d.pos = image.VPC, f.Size, end
		d.src.advance(end)
		return true, nil
	}
	d.eng.submit(job{src: v, off: d.pos})
	d.pos += int64(len(v.b))
	d.src.advance(d.pos)
	if d.pos < end {
		return false, nil
	}
	d.size = image.Align(d.pos)
	return true, nil
}

func (d *rawDecoder) offset() int64 { return d.pos }
func (d *rawDecoder) state() ([]byte, error) {
	if d.kind == image.VPC {
		return nil, errNoState // its footer is read, and would be missed
	}
	return nil, nil
}
func (d *rawDecoder) virtual() int64       { return d.size }
func (d *rawDecoder) format() image.Format { return d.kind }
