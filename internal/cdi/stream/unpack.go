package stream

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"virtctl/internal/cdi/image"
)

// maxClusterWindow bounds the window of a compressed cluster: it need not be larger than the largest cluster.
const maxClusterWindow = 4 << 20

// worker holds what one goroutine uses again and again.
type worker struct {
	in   bytes.Reader
	out  []byte
	flat io.ReadCloser
	zlib io.ReadCloser
	zst  *zstd.Decoder
}

func (w *worker) close() {
	if w.zst != nil {
		w.zst.Close()
	}
}

func (w *worker) buffer(n int) []byte {
	if cap(w.out) < n {
		w.out = make([]byte, n)
	}
	return w.out[:n]
}

// inflate unpacks n bytes of raw deflate. What follows them in b does not matter.
func (w *worker) inflate(f image.Format, b []byte, n int) ([]byte, error) {
	w.in.Reset(b)
	if w.flat == nil {
		w.flat = flate.NewReader(&w.in)
	} else if err := w.flat.(flate.Resetter).Reset(&w.in, nil); err != nil {
		return nil, badCluster(f, err)
	}
	return w.fill(f, w.flat, n, n)
}

// inflateZlib unpacks up to n bytes of zlib.
func (w *worker) inflateZlib(f image.Format, b []byte, n int) ([]byte, error) {
	w.in.Reset(b)
	var err error
	if w.zlib == nil {
		w.zlib, err = zlib.NewReader(&w.in)
	} else {
		err = w.zlib.(zlib.Resetter).Reset(&w.in, nil)
	}
	if err != nil {
		return nil, badCluster(f, err)
	}
	return w.fill(f, w.zlib, n, 0)
}

// zstd unpacks n bytes.
func (w *worker) zstd(f image.Format, b []byte, n int) ([]byte, error) {
	w.in.Reset(b)
	var err error
	if w.zst == nil {
		w.zst, err = zstd.NewReader(&w.in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxClusterWindow))
	} else {
		err = w.zst.Reset(&w.in)
	}
	if err != nil {
		return nil, badCluster(f, err)
	}
	return w.fill(f, w.zst, n, n)
}

// fill reads n bytes, or at least least when the stream ends there.
func (w *worker) fill(f image.Format, r io.Reader, n, least int) ([]byte, error) {
	out := w.buffer(n)
	got, err := io.ReadFull(r, out)
	if err != nil && (got < least || !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF)) {
		return nil, badCluster(f, err)
	}
	return out[:got], nil
}

func badCluster(f image.Format, err error) error {
	return &image.CorruptError{Format: f, Detail: fmt.Sprintf("a compressed cluster cannot be unpacked (%v)", err)}
}
