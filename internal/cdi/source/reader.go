package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"
)

// Policy bounds how long and how often a source is tried.
type Policy struct {
	// Stall is how long a connection may give nothing before it is given up.
	Stall time.Duration
	// Attempts is how often in a row a connection may fail without Progress bytes between.
	Attempts int
	// Progress is how many bytes make a connection count as good.
	Progress int64
	// FirstDelay is the pause after the first failure; it doubles up to MaxDelay.
	FirstDelay, MaxDelay time.Duration
}

// DefaultPolicy gives up after about two minutes without progress.
func DefaultPolicy() Policy {
	return Policy{Stall: 60 * time.Second, Attempts: 8, Progress: 1 << 20, FirstDelay: time.Second, MaxDelay: 30 * time.Second}
}

// delay is the pause before the attempt after n failures, up to a quarter shorter so that many workers do not come back at once.
func (p Policy) delay(n int) time.Duration {
	d := p.FirstDelay
	for range n - 1 {
		if d *= 2; d >= p.MaxDelay {
			break
		}
	}
	d = min(d, p.MaxDelay)
	return d - time.Duration(rand.Float64()*float64(d)/4)
}

// wait pauses after the n-th failure in a row; false when ctx ended.
func (p Policy) wait(ctx context.Context, n int) bool {
	timer := time.NewTimer(p.delay(n))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// Reader is an Object as one stream. When the connection breaks it opens the object again where it was.
type Reader struct {
	object Object
	policy Policy
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu    sync.Mutex // one Read at a time, and what it leaves for Close
	body  io.ReadCloser
	stall *watch
	info  Info

	offset   int64 // of the next byte
	end      int64 // 0: the object's
	mark     int64 // offset at the last failure
	failures int
	// Retries counts how often the connection was made again.
	retries int
	err     error
}

// Start is where a stream begins. The zero value is the beginning of whatever the source has now.
type Start struct {
	Offset int64
	// End is where the stream ends; 0 is the object's end.
	End int64
	// Pin is the content that was read up to Offset.
	Pin Info
}

// NewReader opens the object and reads what the source says about it. Failures to open are retried as well.
func NewReader(ctx context.Context, object Object, start Start, policy Policy) (*Reader, error) {
	r := &Reader{object: object, policy: policy, offset: start.Offset, end: start.End, mark: start.Offset, info: start.Pin}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	for r.body == nil {
		if err := r.open(); err != nil {
			if err := r.failed(err); err != nil {
				r.cancel(err)
				return nil, err
			}
		}
	}
	return r, nil
}

// Info is what the source said when it was opened first.
func (r *Reader) Info() Info { return r.info }

// Offset is where the next byte comes from.
func (r *Reader) Offset() int64 { return r.offset }

// Retries is how often the connection was made again.
func (r *Reader) Retries() int { return r.retries }

func (r *Reader) open() error {
	ctx, cancel := context.WithCancelCause(r.ctx)
	stall := newWatch(r.policy.Stall, cancel)
	body, info, err := r.object.Open(ctx, Part{r.offset, r.end}, r.info)
	if err != nil {
		stall.stop()
		return stalled(ctx, err)
	}
	if r.info == (Info{}) {
		r.info = info
	}
	r.body, r.stall = &boundBody{body, ctx}, stall
	return nil
}

// Read reads on, over as many connections as it takes.
func (r *Reader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.err == nil {
		if r.body == nil {
			if err := r.open(); err != nil {
				r.err = r.failed(err)
			}
			continue
		}
		r.stall.resume()
		n, err := r.body.Read(p)
		r.stall.pause()
		r.offset += int64(n)
		if err == nil {
			if n > 0 || len(p) == 0 {
				return n, nil
			}
			continue
		}
		r.closeBody()
		r.err = r.ended(err)
		if n > 0 {
			return n, nil
		}
	}
	return 0, r.err
}

// ended decides what the end of a connection means: nil to go on with a new one.
func (r *Reader) ended(err error) error {
	end := r.info.Size
	if r.end > 0 {
		end = r.end
	}
	if errors.Is(err, io.EOF) {
		if end < 0 || r.offset == end {
			return io.EOF
		}
		err = io.ErrUnexpectedEOF
	}
	if errors.Is(err, io.ErrUnexpectedEOF) && end >= 0 {
		err = fmt.Errorf("the connection ended after %d of %d bytes", r.offset, end)
	}
	if r.info.Identity == "" && r.offset > 0 {
		// Another connection might give another content: joining the two would make a disk that never existed.
		return &unpinnedError{err}
	}
	return r.failed(err)
}

// failed counts a failure and pauses; the error it returns is final.
func (r *Reader) failed(err error) error {
	if _, fatal := Fatal(err); fatal || errors.Is(err, ErrChanged) {
		return err
	}
	if r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	if r.offset-r.mark >= r.policy.Progress {
		r.failures = 0
	}
	r.mark = r.offset
	if r.failures++; r.failures >= r.policy.Attempts {
		return &GivenUpError{Attempts: r.failures, Offset: r.offset, Err: err}
	}
	r.retries++
	if !r.policy.wait(r.ctx, r.failures) {
		return context.Cause(r.ctx)
	}
	return nil
}

func (r *Reader) closeBody() {
	if r.body != nil {
		r.stall.stop()
		r.body.Close()
		r.body = nil
	}
}

// Close ends the connection, also under somebody who reads ahead.
func (r *Reader) Close() error {
	r.cancel(errClosed)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closeBody()
	if r.err == nil {
		r.err = errClosed
	}
	return nil
}

var errClosed = errors.New("read after close")

var errStalled = errors.New("the server sent nothing for too long")

// stalled says why a request was ended.
func stalled(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

// boundBody tells a stalled connection from other errors.
type boundBody struct {
	io.ReadCloser
	ctx context.Context
}

func (b *boundBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = stalled(b.ctx, err)
	}
	return n, err
}

// watch cancels a request that does not move. It counts only while a read waits: a slow disk is no fault of the server.
type watch struct {
	timer  *time.Timer
	limit  time.Duration
	cancel context.CancelCauseFunc
}

func newWatch(limit time.Duration, cancel context.CancelCauseFunc) *watch {
	return &watch{timer: time.AfterFunc(limit, func() { cancel(errStalled) }), limit: limit, cancel: cancel}
}

func (w *watch) resume() { w.timer.Reset(w.limit) }
func (w *watch) pause()  { w.timer.Stop() }
func (w *watch) stop()   { w.timer.Stop(); w.cancel(context.Canceled) }

// GivenUpError is a source that failed too often. It may work later.
type GivenUpError struct {
	Attempts int
	Offset   int64
	Err      error
}

func (e *GivenUpError) Error() string {
	return fmt.Sprintf("given up after %d attempts at byte %d: %v", e.Attempts, e.Offset, e.Err)
}

func (e *GivenUpError) Unwrap() error { return e.Err }

// Retry does what Reader does for a request that is no stream.
func Retry(ctx context.Context, policy Policy, try func() error) error {
	r := &Reader{policy: policy, ctx: ctx}
	for {
		err := try()
		if err == nil {
			return nil
		}
		if err := r.failed(err); err != nil {
			return err
		}
	}
}
