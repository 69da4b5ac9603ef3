package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"virtctl/internal/cdi/image"
)

// run is one Copy at work.
type run struct {
	opts     Options
	outer    *source // the bytes as they come, which are hashed
	src      *source // the same, or what was unpacked from them
	hash     *hasher
	out      *target
	eng      *engine
	early    *early // what the decoder puts aside, if it does
	dec      decoder
	comp     image.Compression
	unpacker *unpacking
	cancel   func() // of the outer source's reading
	ckpt     checkpoints
	resume   bool
}

func copyTo(ctx context.Context, in io.Reader, path string, opts Options) (Result, error) {
	out, err := openTarget(path, opts)
	if err != nil {
		return Result{}, err
	}
	defer out.f.Close()
	ctx, cancel := context.WithCancel(ctx)
	r := &run{opts: opts, out: out, eng: newEngine(out), resume: opts.Resume != nil, cancel: cancel}
	defer r.eng.close()
	if err := r.open(ctx, in); err != nil {
		return Result{}, r.leave(err)
	}
	defer cancel()
	defer r.hash.close()
	defer r.abandon()
	if r.unpacker != nil {
		r.unpacker.rec.off.Store(true)
	}
	if err := r.loop(); err != nil {
		return Result{}, r.stop(r.cause(err))
	}
	return r.finish()
}

// leave gives up before anything was written. The source goes on only as the rest that a NeedsSpoolError hands over.
func (r *run) leave(err error) error {
	var ns *NeedsSpoolError
	if errors.As(err, &ns) && ns.Rest != nil {
		ns.Rest = &lastReader{r: ns.Rest, done: r.cancel}
		return err
	}
	r.abandon()
	return err
}

// lastReader ends the reading ahead when the rest is read.
type lastReader struct {
	r    io.Reader
	done func()
}

func (l *lastReader) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if err != nil {
		l.done()
	}
	return n, err
}

// open starts reading and finds the decoder.
func (r *run) open(ctx context.Context, in io.Reader) error {
	off, mid := int64(0), []byte(nil)
	if c := r.opts.Resume; c != nil {
		off, mid = c.Offset, c.Hash
	}
	h, err := newHasher(mid)
	if err != nil {
		return err
	}
	r.hash = h
	r.outer = newSource(ctx, in, off, r.opts.Size, h)
	r.src = r.outer
	if r.resume {
		err = r.reopen()
	} else {
		err = r.begin()
	}
	if err != nil {
		h.close()
		return r.cause(err)
	}
	r.ckpt = checkpoints{opts: r.opts, last: off, when: time.Now()}
	return nil
}

// begin recognises the format and prepares the target.
func (r *run) begin() error {
	if r.opts.Content == SparseClone {
		return r.decoder(sparseFormat, nil)
	}
	head := r.src.view(0, image.HeadSize)
	defer func() { head.release() }()
	if err := r.src.failure(); err != nil {
		return err // too little came to know what it is
	}
	format, comp := image.Sniff(head.b)
	if r.opts.Content == BlockClone {
		comp = snappy
	}
	if comp != image.None {
		head.release()
		if err := r.unwrap(comp); err != nil {
			return err
		}
		if head = r.src.view(0, image.HeadSize); r.src.failure() != nil {
			return r.src.failure()
		}
		if format, comp = image.Sniff(head.b); comp != image.None && r.comp != snappy {
			return &image.RefusedError{Format: image.Raw, Reason: image.Unsupported, Detail: fmt.Sprintf("%s inside %s", comp, r.comp)}
		}
	}
	switch {
	case r.opts.Content == BlockClone:
		format = image.Raw // whatever the disk holds, it is a disk already
	case r.opts.Format != "":
		format = r.opts.Format
	}
	return r.decoder(format, head.b)
}

// rawSize is the disk's size as far as the source's length tells it: it may still have the footer of a fixed VHD.
func (r *run) rawSize() int64 {
	size := r.opts.Size
	if r.comp != image.None {
		return image.Unknown
	}
	if size > r.out.available && size <= r.out.available+image.VPCFooterSize {
		return r.out.available
	}
	return size
}

// loop decodes until the disk is complete.
func (r *run) loop() error {
	for {
		done, err := r.dec.step()
		if err = errors.Join(r.eng.failed(), err); err != nil {
			return err
		}
		r.opts.Progress(r.outer.arrived.Load(), r.opts.Size)
		if done {
			return nil
		}
		if err := r.checkpoint(); err != nil {
			return err
		}
	}
}

// checkpoint takes one when it is due. The target is synced beside the work that goes on.
func (r *run) checkpoint() error {
	if !r.ckpt.due(r.dec.offset()) {
		return r.ckpt.failed()
	}
	c, err := r.snapshot()
	if err != nil {
		return err
	}
	r.ckpt.start(r.out, c)
	return nil
}

// errNoState is a decoder that cannot be resumed from where it is.
var errNoState = errors.New("there is nothing to go on from")

// snapshot is the state of the work when everything read so far is written.
func (r *run) snapshot() (Checkpoint, error) {
	if err := r.eng.settle(); err != nil {
		return Checkpoint{}, err
	}
	state, err := r.dec.state()
	if err != nil {
		return Checkpoint{}, err
	}
	// Past a complete disk only the hash goes on.
	off := max(r.dec.offset(), r.src.hashed)
	if err := r.out.extend(off); err != nil {
		return Checkpoint{}, err
	}
	r.src.hashTo(off)
	return Checkpoint{
		Offset: off, Hash: r.hash.midstate(), Format: r.dec.format(), VirtualSize: r.out.virtual,
		Written: r.out.written.Load(), State: state,
	}, nil
}

// stop ends a run that failed. A source that failed leaves a checkpoint of everything that arrived.
func (r *run) stop(err error) error {
	werr := r.ckpt.wait()
	var se *SourceError
	var full *NoSpaceError
	if r.early != nil {
		defer func() {
			_ = r.early.close(!errors.As(err, &se) && !errors.As(err, &full)) // the error at hand says more
		}()
	}
	if !errors.As(err, &se) || r.opts.Checkpointer == nil || werr != nil {
		return err
	}
	c, serr := r.snapshot()
	if errors.Is(serr, errNoState) {
		return err // the last checkpoint stands
	}
	if serr == nil {
		serr = r.out.sync()
	}
	if serr == nil {
		serr = r.opts.Checkpointer.Save(c)
	}
	if serr != nil {
		return fmt.Errorf("%w (and its progress could not be kept: %w)", err, serr)
	}
	return err
}

// finish reads the source to its end and completes the disk.
func (r *run) finish() (Result, error) {
	n, err := r.drain()
	if err == nil && r.opts.Size > 0 && n != r.opts.Size {
		err = &SourceError{Offset: n, Err: fmt.Errorf("%w: %d bytes were announced", sizeFault(n, r.opts.Size), r.opts.Size)}
	}
	if err != nil {
		return Result{}, r.stop(err)
	}
	if err := errors.Join(r.eng.settle(), r.ckpt.wait()); err != nil {
		return Result{}, err
	}
	last, lerr := r.snapshot()
	if r.early != nil {
		if err := r.early.close(true); err != nil {
			return Result{}, targetError(r.out.path, "clean up beside", err)
		}
	}
	if err := r.out.fits(r.dec.virtual()); err != nil {
		return Result{}, err
	}
	if err := r.out.finish(r.dec.virtual(), r.opts.GrowTo); err != nil {
		return Result{}, err
	}
	// Who is killed from here on need not send anything again.
	if lerr == nil && r.opts.Checkpointer != nil {
		if err := r.opts.Checkpointer.Save(last); err != nil {
			return Result{}, err
		}
	}
	return Result{
		SourceBytes: n, Digest: r.hash.sum(), Format: plainFormat(r.dec.format()), Compression: r.comp, VirtualSize: r.dec.virtual(),
		Written: r.out.written.Load(), Preallocated: r.opts.Preallocation,
	}, nil
}

// plainFormat is a decoder's format as users call it.
func plainFormat(f image.Format) image.Format {
	switch f {
	case grains:
		return image.VMDK
	case sparseFormat, spooled:
		return image.Raw
	}
	return f
}

var errTooLong = errors.New("the source is longer than it said")

func sizeFault(got, want int64) error {
	if got < want {
		return io.ErrUnexpectedEOF
	}
	return errTooLong
}

// checkpoints takes checkpoints now and then, one at a time.
type checkpoints struct {
	opts Options
	last int64
	when time.Time
	busy chan error // of the one under way
	err  error
}

// due tells whether it is time for another one.
func (c *checkpoints) due(off int64) bool {
	if c.opts.Checkpointer == nil || off-c.last < c.opts.CheckpointBytes || time.Since(c.when) < c.opts.CheckpointInterval {
		return false
	}
	if c.busy == nil {
		return true
	}
	select {
	case c.err = <-c.busy:
		c.busy = nil
		return c.err == nil
	default:
		return false
	}
}

func (c *checkpoints) failed() error { return c.err }

func (c *checkpoints) start(out *target, cp Checkpoint) {
	c.last, c.when = cp.Offset, time.Now()
	c.busy = make(chan error, 1)
	go func(done chan error) {
		if err := out.sync(); err != nil {
			done <- err
			return
		}
		done <- c.opts.Checkpointer.Save(cp)
	}(c.busy)
}

// wait waits for the one under way.
func (c *checkpoints) wait() error {
	if c.busy != nil {
		c.err = <-c.busy
		c.busy = nil
	}
	return c.err
}
