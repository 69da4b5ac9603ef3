package stream

import "slices"

// maxEarly bounds the bytes that wait for a table to map them. Images of qemu-img need one partly filled cluster for each table.
const maxEarly = 4 << 20

// piece is a part of the image.
type piece struct {
	Off  int64  `json:"off"`
	Data []byte `json:"data"`
}

func (p piece) end() int64 { return p.Off + int64(len(p.Data)) }

// early keeps parts of the image that came before the table which maps them. The oldest go first when it is full.
type early struct {
	pieces  []piece // by offset
	bytes   int
	dropped bool // something is gone that may be asked for
}

// keep stores bytes; offsets only grow. Zeros need not be told from what was never written, but they are kept too: a
// compressed cluster may hold them.
func (e *early) keep(off int64, b []byte) {
	if n := len(e.pieces); n > 0 && e.pieces[n-1].end() == off && len(e.pieces[n-1].Data) < chunkSize {
		e.pieces[n-1].Data = append(e.pieces[n-1].Data, b...)
	} else {
		e.pieces = append(e.pieces, piece{Off: off, Data: slices.Clone(b)})
	}
	e.bytes += len(b)
	n := 0
	for e.bytes > maxEarly && n < len(e.pieces)-1 {
		e.bytes -= len(e.pieces[n].Data)
		e.dropped = true
		n++
	}
	e.pieces = slices.Delete(e.pieces, 0, n)
}

// get gives a copy of up to n bytes at off, fewer where there is a hole.
func (e *early) get(off, n int64) []byte {
	i, _ := slices.BinarySearchFunc(e.pieces, off, func(p piece, off int64) int {
		if p.end() <= off {
			return -1
		}
		return 1
	})
	var out []byte
	for ; i < len(e.pieces) && n > 0; i++ {
		p := e.pieces[i]
		if p.Off > off {
			break
		}
		part := p.Data[off-p.Off : min(int64(len(p.Data)), off-p.Off+n)]
		out = append(out, part...)
		off, n = off+int64(len(part)), n-int64(len(part))
	}
	return out
}

func (e *early) clear() { e.pieces, e.bytes = nil, 0 }
