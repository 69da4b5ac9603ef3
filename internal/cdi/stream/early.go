package stream

import (
	"errors"
	"fmt"
	"os"
	"slices"
)

// maxEarly bounds the bytes that wait in memory for a table to map them. Images of qemu-img need one partly filled cluster for
// each table; images that a machine has used for long, with discards, may need more, which goes to a file.
const maxEarly = 4 << 20

// piece is a part of the image.
type piece struct {
	Off  int64  `json:"off"`
	Data []byte `json:"data"`
}

func (p piece) end() int64 { return p.Off + int64(len(p.Data)) }

// spot is a part of the image in the spill file.
type spot struct {
	Off int64 `json:"off"`
	N   int64 `json:"n"`
	At  int64 `json:"at"`
}

// early keeps parts of the image that came before the table which maps them. The oldest go to a file when memory is full, and
// are dropped when there is none.
type early struct {
	path    string // of the spill file, empty for none
	pieces  []piece
	bytes   int
	file    *os.File
	spots   []spot
	dirty   bool
	dropped bool // something is gone that may be asked for
}

// keep stores bytes; offsets only grow.
func (e *early) keep(off int64, b []byte) {
	if n := len(e.pieces); n > 0 && e.pieces[n-1].end() == off && len(e.pieces[n-1].Data) < chunkSize {
		e.pieces[n-1].Data = append(e.pieces[n-1].Data, b...)
	} else {
		e.pieces = append(e.pieces, piece{Off: off, Data: slices.Clone(b)})
	}
	e.bytes += len(b)
	n := 0
	for e.bytes > maxEarly && n < len(e.pieces)-1 {
		e.spill(e.pieces[n])
		e.bytes -= len(e.pieces[n].Data)
		n++
	}
	e.pieces = slices.Delete(e.pieces, 0, n)
}

// spill moves a piece to the file. A disk without room for it is no fault yet: the piece may be garbage.
func (e *early) spill(p piece) {
	if e.dropped = e.dropped || e.path == ""; e.dropped {
		return
	}
	if e.file == nil {
		f, err := os.OpenFile(e.path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			e.dropped = true
			return
		}
		e.file = f
	}
	at, last := int64(0), len(e.spots)-1
	if last >= 0 {
		at = e.spots[last].At + e.spots[last].N
	}
	if _, err := e.file.WriteAt(p.Data, at); err != nil {
		e.dropped = true
		return
	}
	e.dirty = true
	if last >= 0 && e.spots[last].Off+e.spots[last].N == p.Off {
		e.spots[last].N += int64(len(p.Data))
		return
	}
	e.spots = append(e.spots, spot{Off: p.Off, N: int64(len(p.Data)), At: at})
}

// get gives a copy of up to n bytes at off, fewer where there is a hole.
func (e *early) get(off, n int64) ([]byte, error) {
	var out []byte
	for n > 0 {
		b, err := e.part(off, n)
		if err != nil || len(b) == 0 {
			return out, err
		}
		out = append(out, b...)
		off, n = off+int64(len(b)), n-int64(len(b))
	}
	return out, nil
}

// part gives some bytes at off.
func (e *early) part(off, n int64) ([]byte, error) {
	i, _ := slices.BinarySearchFunc(e.pieces, off, func(p piece, off int64) int { return after(p.end(), off) })
	if i < len(e.pieces) && e.pieces[i].Off <= off {
		p := e.pieces[i]
		return p.Data[off-p.Off : min(int64(len(p.Data)), off-p.Off+n)], nil
	}
	i, _ = slices.BinarySearchFunc(e.spots, off, func(s spot, off int64) int { return after(s.Off+s.N, off) })
	if i == len(e.spots) || e.spots[i].Off > off {
		return nil, nil
	}
	s := e.spots[i]
	b := make([]byte, min(n, s.Off+s.N-off))
	if _, err := e.file.ReadAt(b, s.At+off-s.Off); err != nil {
		return nil, fmt.Errorf("read back what was put aside in %s: %w", e.path, err)
	}
	return b, nil
}

// after orders something that ends at end against off.
func after(end, off int64) int {
	if end <= off {
		return -1
	}
	return 1
}

// sync makes the spill file last as long as a checkpoint that needs it.
func (e *early) sync() error {
	if e.file == nil || !e.dirty {
		return nil
	}
	e.dirty = false
	if err := e.file.Sync(); err != nil {
		return targetError(e.path, "sync", err)
	}
	return nil
}

// restore opens the spill file of a checkpoint.
func (e *early) restore(spots []spot) error {
	if len(spots) == 0 {
		return nil
	}
	f, err := os.OpenFile(e.path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open what was put aside: %w; start again from the beginning", err)
	}
	e.file, e.spots = f, spots
	return nil
}

// clear forgets everything: nothing will be asked for any more. The file stays as it is, for the last checkpoint.
func (e *early) clear() { e.pieces, e.bytes, e.spots = nil, 0, nil }

// close closes the spill file; it stays for a run that goes on.
func (e *early) close(remove bool) error {
	var err error
	if e.file != nil {
		err = e.file.Close()
		e.file = nil
	}
	if remove && e.path != "" {
		if rerr := os.Remove(e.path); !errors.Is(rerr, os.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return err
}
