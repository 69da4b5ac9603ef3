package stream

import (
	"container/heap"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"virtctl/internal/cdi/image"
)

// mappedState is a mapped decoder in a checkpoint.
type mappedState struct {
	QCOW2  *image.QCOW2Header `json:"qcow2,omitempty"`
	Blocks *blockHeader       `json:"blocks,omitempty"`
	VMDK   *vmdkHeader        `json:"vmdk,omitempty"`
	VHDX   *vhdxHeader        `json:"vhdx,omitempty"`
	// Regions and Extents are sequences of varints, each field as the difference to the one before.
	Regions []byte  `json:"regions,omitempty"`
	Extents []byte  `json:"extents,omitempty"`
	Early   []piece `json:"early,omitempty"`
	Spilled []spot  `json:"spilled,omitempty"`
	Dropped bool    `json:"dropped,omitempty"`
}

func (d *mapped) state() ([]byte, error) {
	if d.torn {
		return nil, errNoState
	}
	if err := d.early.sync(); err != nil {
		return nil, err
	}
	s := mappedState{Early: d.early.pieces, Spilled: d.early.spots, Dropped: d.early.dropped}
	switch h := d.tab.header().(type) {
	case image.QCOW2Header:
		s.QCOW2 = &h
	case blockHeader:
		s.Blocks = &h
	case vmdkHeader:
		s.VMDK = &h
	case vhdxHeader:
		s.VHDX = &h
	default:
		return nil, errNoState
	}
	var last [4]int64
	put := func(b []byte, vs ...int64) []byte {
		for i, v := range vs {
			b = binary.AppendVarint(b, v-last[i])
			last[i] = v
		}
		return b
	}
	for _, r := range d.regions {
		s.Regions = put(s.Regions, r.off, r.end-r.off, int64(r.kind), r.arg)
	}
	last = [4]int64{}
	for _, x := range d.extents {
		packed := int64(0)
		if x.packed {
			packed = 1
		}
		s.Extents = put(s.Extents, x.phys, x.virt, x.n, packed)
	}
	return json.Marshal(s)
}

// restoreMapped makes the decoder of a checkpoint again.
func (r *run) restoreMapped(c *Checkpoint) (*mapped, error) {
	var s mappedState
	if err := json.Unmarshal(c.State, &s); err != nil {
		return nil, fmt.Errorf("read the checkpoint: %w; start again", err)
	}
	d := r.newMapped()
	d.pos = c.Offset
	switch {
	case s.QCOW2 != nil:
		d.tab = &qcow2Tables{h: *s.QCOW2}
	case s.Blocks != nil:
		d.tab = &blockTables{H: *s.Blocks}
	case s.VMDK != nil && s.VMDK.Grain > 0:
		d.tab = &vmdkTables{H: *s.VMDK}
	case s.VHDX != nil && s.VHDX.Ratio > 0:
		d.tab = &vhdxTables{H: *s.VHDX}
	default:
		return nil, fmt.Errorf("the checkpoint lacks the %s image's header; start again", c.Format)
	}
	regions, err := varints(s.Regions)
	if err != nil {
		return nil, err
	}
	for _, r := range regions {
		x := region{off: r[0], end: r[0] + r[1], kind: regionKind(r[2]), arg: r[3]}
		if x.kind != regionSkip {
			d.unread++
		}
		d.regions = append(d.regions, x)
	}
	extents, err := varints(s.Extents)
	if err != nil {
		return nil, err
	}
	for _, x := range extents {
		d.extents = append(d.extents, extent{phys: x[0], virt: x[1], n: x[2], packed: x[3] != 0})
	}
	heap.Init(&d.regions)
	heap.Init(&d.extents)
	if err := d.early.restore(s.Spilled); err != nil {
		return nil, err
	}
	d.early.pieces, d.early.dropped = s.Early, s.Dropped
	for _, p := range s.Early {
		d.early.bytes += len(p.Data)
	}
	return d, nil
}

// varints reads records of four differences back.
func varints(b []byte) ([][4]int64, error) {
	var out [][4]int64
	var last [4]int64
	for len(b) > 0 {
		for i := range last {
			v, n := binary.Varint(b)
			if n <= 0 {
				return nil, fmt.Errorf("the checkpoint is damaged; start again")
			}
			last[i] += v
			b = b[n:]
		}
		out = append(out, last)
	}
	return out, nil
}
