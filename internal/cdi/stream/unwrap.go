package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/klauspost/compress/s2"

	"virtctl/internal/cdi/image"
)

const (
	// snappy is the wrapping of the contract's clone streams.
	snappy image.Compression = "snappy"
	// maxTrailer bounds what may follow a complete disk inside a compressed file, so that it cannot go on for ever.
	maxTrailer = 64 << 20
	unlimited  = int64(1) << 60
)

// unwrap puts an unpacking source over the outer one. Such a stream has no checkpoints: an unpacker cannot go on from the middle.
func (r *run) unwrap(c image.Compression) error {
	rec := &recorder{r: &restReader{s: r.outer}}
	z, err := decompressor(rec, c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.outer.ctx)
	go r.outer.lean()
	r.src = newSource(ctx, z, 0, image.Unknown, nil)
	r.comp, r.opts.Checkpointer = c, nil
	r.unpacker = &unpacking{rec: rec, z: z, cancel: cancel}
	return nil
}

func decompressor(r io.Reader, c image.Compression) (io.ReadCloser, error) {
	if c == snappy {
		return io.NopCloser(&snappyReader{r: s2.NewReader(r, s2.ReaderMaxBlockSize(1<<20))}), nil
	}
	return image.NewDecompressor(r, c)
}

// snappyReader says which wrapping failed.
type snappyReader struct{ r io.Reader }

func (s *snappyReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &image.CompressionError{Compression: snappy, Err: err}
	}
	return n, err
}

// unpacking is the unpacker under way.
type unpacking struct {
	rec    *recorder
	z      io.ReadCloser
	cancel func()
}

// recorder keeps what is read until it is told to stop.
type recorder struct {
	r   io.Reader
	buf []byte
	off atomic.Bool
}

func (c *recorder) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.off.Load() {
		c.buf = nil
	} else {
		c.buf = append(c.buf, p[:n]...)
	}
	return n, err
}

// rest is the whole source as it came, for Spool.
func (r *run) rest() io.Reader {
	if r.unpacker == nil {
		return r.outer.rest()
	}
	u := r.unpacker
	r.endUnpacking()
	r.outer.hash = nil
	return io.MultiReader(bytes.NewReader(u.rec.buf), u.rec.r)
}

// endUnpacking stops the unpacker, and returns when it reads no more.
func (r *run) endUnpacking() {
	u := r.unpacker
	if u == nil {
		return
	}
	r.unpacker = nil
	u.cancel()
	for range r.src.chunks {
	}
	u.z.Close()
}

// abandon ends an unpacker, and whatever it waits for.
func (r *run) abandon() {
	if r.cancel(); r.unpacker != nil {
		r.endUnpacking()
	}
}

// cause looks behind an unpacker's error for the source's own.
func (r *run) cause(err error) error {
	var ce *image.CompressionError
	if r.unpacker == nil || !errors.As(err, &ce) {
		return err
	}
	r.endUnpacking()
	if own := r.outer.failure(); own != nil {
		return own
	}
	return err
}

// drain reads everything to its end. A compressed file must not go on much longer than its disk.
func (r *run) drain() (int64, error) {
	progress := func() { r.opts.Progress(r.outer.arrived.Load(), r.opts.Size) }
	if r.src != r.outer {
		before := r.src.have
		end, err := r.src.drain(maxTrailer, progress)
		if err == nil && end-before > maxTrailer {
			err = &image.CorruptError{Format: r.dec.format(), Detail: fmt.Sprintf("more than %d bytes follow the disk", int64(maxTrailer))}
		}
		if err != nil {
			return 0, r.cause(err)
		}
		r.endUnpacking()
	}
	return r.outer.drain(unlimited, progress)
}
