package stream

import (
	"context"
	"crypto/sha256"
	"encoding"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync/atomic"

	"virtctl/internal/cdi/image"
)

const (
	chunkSize  = 512 << 10
	chunkCount = 12
)

// chunk is a piece of the source. It goes back to its pool when nobody refers to it any more.
type chunk struct {
	buf  []byte
	off  int64 // in the source
	refs atomic.Int32
	pool chan *chunk
}

func (c *chunk) hold() { c.refs.Add(1) }

func (c *chunk) release() {
	if c.refs.Add(-1) == 0 {
		c.buf = c.buf[:cap(c.buf)]
		c.pool <- c
	}
}

func (c *chunk) end() int64 { return c.off + int64(len(c.buf)) }

// view is a part of the source as one slice. Release it when its bytes are used up.
type view struct {
	b []byte
	c *chunk // nil when the bytes were put together from several chunks
}

func (v view) release() {
	if v.c != nil {
		v.c.release()
	}
}

// source gives a decoder a window on the bytes as they come. One goroutine reads ahead, another one hashes.
type source struct {
	ctx    context.Context
	chunks chan *chunk
	pool   chan *chunk
	window []*chunk
	have   int64 // end of the window
	hashed int64 // everything before went to the hasher
	err    error // why no more chunks come; io.EOF at the good end
	errc   chan error
	hash   *hasher // nil when hashing happens elsewhere
	// arrived is how far the source was read, ahead of the window.
	arrived atomic.Int64
}

// newSource starts reading r, whose first byte is at offset off of the whole source, which is want bytes long if that is known.
func newSource(ctx context.Context, r io.Reader, off, want int64, h *hasher) *source {
	s := &source{ctx: ctx, chunks: make(chan *chunk, chunkCount), have: off, hashed: off, errc: make(chan error, 1), hash: h}
	s.arrived.Store(off)
	s.pool = make(chan *chunk, chunkCount)
	for range chunkCount {
		s.pool <- &chunk{pool: s.pool}
	}
	go s.read(r, off, want)
	return s
}

// lean gives most of the memory back: an unpacker reads the source in small pieces and has memory of its own.
func (s *source) lean() {
	for range chunkCount - 2 {
		select {
		case <-s.pool:
		case <-s.ctx.Done():
		}
	}
}

// read fills chunks until the source ends. What arrived before an error is handed on.
func (s *source) read(r io.Reader, off, want int64) {
	defer close(s.chunks)
	for {
		var c *chunk
		select {
		case c = <-s.pool:
		case <-s.ctx.Done():
			s.errc <- context.Cause(s.ctx)
			return
		}
		if c.buf == nil {
			c.buf = make([]byte, chunkSize)
		}
		n, err := readFull(r, c.buf)
		if n > 0 {
			c.buf, c.off = c.buf[:n], off
			c.refs.Store(1)
			off += int64(n)
			s.arrived.Store(off)
			s.chunks <- c // has room for every chunk there is
		}
		if errors.Is(err, io.EOF) && off < want {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			s.errc <- err
			return
		}
	}
}

// readFull is io.ReadFull that keeps apart a good end (io.EOF) and a reader's own io.ErrUnexpectedEOF.
func readFull(r io.Reader, b []byte) (int, error) {
	n, idle := 0, 0
	for n < len(b) {
		m, err := r.Read(b[n:])
		n += m
		if err != nil {
			return n, err
		}
		if m > 0 {
			idle = 0
		} else if idle++; idle > 100 {
			return n, io.ErrNoProgress
		}
	}
	return n, nil
}

// more waits for another chunk; false when there is none, and s.err says why.
func (s *source) more() bool {
	if s.err != nil {
		return false
	}
	select {
	case c, ok := <-s.chunks:
		if !ok {
			s.err = <-s.errc
			return false
		}
		s.window = append(s.window, c)
		s.have = c.end()
		return true
	case <-s.ctx.Done():
		s.err = context.Cause(s.ctx)
		return false
	}
}

// failure is nil while the source is good or has ended well.
func (s *source) failure() error {
	if s.err == nil || errors.Is(s.err, io.EOF) {
		return nil
	}
	var ce *image.CompressionError
	if errors.As(s.err, &ce) {
		return ce
	}
	return &SourceError{Offset: s.have, Err: s.err}
}

// view gives n bytes at off, fewer at the end of the source. It must not lie before what was advanced over.
func (s *source) view(off int64, n int) view {
	for s.have < off+int64(n) && s.more() {
	}
	end := min(off+int64(n), s.have)
	if end <= off {
		return view{}
	}
	var joined []byte
	for _, c := range s.window {
		if c.end() <= off {
			continue
		}
		if joined == nil && c.end() >= end {
			c.hold()
			return view{b: c.buf[off-c.off : end-c.off], c: c}
		}
		if joined == nil {
			joined = make([]byte, 0, end-off)
		}
		from := off + int64(len(joined))
		joined = append(joined, c.buf[from-c.off:min(end, c.end())-c.off]...)
		if int64(len(joined)) == end-off {
			break
		}
	}
	return view{b: joined}
}

// chunkAt gives what is there at off without joining: the rest of the chunk it lies in, empty at the end of the source.
func (s *source) chunkAt(off int64) view {
	for s.have <= off && s.more() {
	}
	for _, c := range s.window {
		if c.off <= off && off < c.end() {
			c.hold()
			return view{b: c.buf[off-c.off:], c: c}
		}
	}
	return view{}
}

// advance forgets everything before to, after it was hashed.
func (s *source) advance(to int64) {
	if len(s.window) == 0 || s.window[0].end() > to {
		return
	}
	s.hashTo(to)
	n := 0
	for _, c := range s.window {
		if c.end() > to {
			break
		}
		c.release()
		n++
	}
	s.window = s.window[:copy(s.window, s.window[n:])]
}

func (s *source) hashTo(to int64) {
	if s.hash == nil {
		return
	}
	for _, c := range s.window {
		if c.end() <= s.hashed || c.off >= to {
			continue
		}
		end := min(to, c.end())
		c.hold()
		s.hash.add(view{b: c.buf[s.hashed-c.off : end-c.off], c: c})
		s.hashed = end
	}
}

// drain reads to the end of the source for its hash only, and tells where it ended. It gives up after limit bytes.
func (s *source) drain(limit int64, progress func()) (int64, error) {
	for limit += s.have; ; {
		s.advance(s.have)
		progress()
		if !s.more() || s.have > limit {
			return s.have, s.failure()
		}
	}
}

// rest is the whole source again, not hashed. Nothing may have been advanced over.
func (s *source) rest() io.Reader {
	s.hash = nil
	return &restReader{s: s}
}

type restReader struct {
	s   *source
	off int64
}

func (r *restReader) Read(p []byte) (int, error) {
	v := r.s.chunkAt(r.off)
	if len(v.b) == 0 {
		return 0, r.s.err
	}
	defer v.release()
	n := copy(p, v.b)
	r.off += int64(n)
	r.s.advance(r.off)
	return n, nil
}

// hasher computes SHA-256 in its own goroutine, in the order of add.
type hasher struct {
	work chan view
	mark chan chan []byte
	h    hash.Hash
}

func newHasher(midstate []byte) (*hasher, error) {
	h := &hasher{work: make(chan view, chunkCount), mark: make(chan chan []byte), h: sha256.New()}
	if midstate != nil {
		u, ok := h.h.(encoding.BinaryUnmarshaler)
		if !ok {
			return nil, errors.New("this SHA-256 has no state to go on from; start again")
		}
		if err := u.UnmarshalBinary(midstate); err != nil {
			return nil, fmt.Errorf("the checkpoint's hash is damaged: %w; start again", err)
		}
	}
	go func() {
		for v := range h.work {
			if v.b == nil {
				reply := <-h.mark
				reply <- h.state()
				continue
			}
			h.h.Write(v.b)
			v.release()
		}
	}()
	return h, nil
}

func (h *hasher) state() []byte {
	b, err := h.h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return nil
	}
	return b
}

func (h *hasher) add(v view) { h.work <- v }

// midstate waits until everything added is hashed.
func (h *hasher) midstate() []byte {
	reply := make(chan []byte, 1)
	h.work <- view{}
	h.mark <- reply
	return <-reply
}

// sum ends the hasher's work and gives the digest.
func (h *hasher) sum() []byte {
	h.midstate()
	return h.h.Sum(nil)
}

func (h *hasher) close() { close(h.work) }
