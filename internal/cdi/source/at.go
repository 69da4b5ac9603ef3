package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Sizes of random access. An image's tables are read again and again, its data mostly in order from a few places.
const (
	blockSize  = 256 << 10
	blockCount = 64
	streams    = 4
	// skip is how far a stream reads on to reach an offset, rather than to open another one.
	skip = 1 << 20
)

// ReaderAt reads an Object at any offset. It keeps a few connections, each of which reads on from where it is, and the last blocks in memory:
// together never more than 16 MiB.
type ReaderAt struct {
	ctx    context.Context
	object Object
	policy Policy
	info   Info

	mu      sync.Mutex
	blocks  map[int64]*block
	streams []*Reader
	tick    int64
	used    []int64 // when each stream was used last
}

type block struct {
	data []byte
	used int64
}

// NewReaderAt gives random access to what pin says was opened before; the object must have a size and serve ranges.
func NewReaderAt(ctx context.Context, object Object, pin Info, policy Policy) (*ReaderAt, error) {
	if pin.Size < 0 || !pin.Ranges {
		return nil, Fatalf(ReasonUnusable, "the server cannot serve parts of the file (HTTP ranges), which an image of this format needs: convert it to raw, or serve it from another server")
	}
	return &ReaderAt{ctx: ctx, object: object, policy: policy, info: pin, blocks: map[int64]*block{}}, nil
}

// Size is the object's size.
func (a *ReaderAt) Size() int64 { return a.info.Size }

// ReadAt is io.ReaderAt.
func (a *ReaderAt) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("read at a negative offset")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	done := 0
	for done < len(p) {
		at := off + int64(done)
		if at >= a.info.Size {
			return done, io.EOF
		}
		data, err := a.block(at / blockSize)
		if err != nil {
			return done, err
		}
		done += copy(p[done:], data[at%blockSize:])
	}
	return done, nil
}

func (a *ReaderAt) block(n int64) ([]byte, error) {
	a.tick++
	if b := a.blocks[n]; b != nil {
		b.used = a.tick
		return b.data, nil
	}
	start := n * blockSize
	stream, err := a.stream(start)
	if err != nil {
		return nil, err
	}
	for at := stream.Offset() / blockSize; ; at++ {
		data, err := a.fill(stream, at)
		if err != nil {
			a.drop(stream)
			return nil, err
		}
		if at == n {
			return data, nil
		}
	}
}

// fill reads the stream's next block, which is block n, and keeps it.
func (a *ReaderAt) fill(stream *Reader, n int64) ([]byte, error) {
	b := a.free()
	b.data = b.data[:min(blockSize, a.info.Size-n*blockSize)]
	if _, err := io.ReadFull(stream, b.data); err != nil {
		return nil, fmt.Errorf("read at byte %d: %w", n*blockSize, err)
	}
	b.used = a.tick
	a.blocks[n] = b
	return b.data, nil
}

// free makes room for a block: a new one, or the one that was not used for longest.
func (a *ReaderAt) free() *block {
	if len(a.blocks) < blockCount {
		return &block{data: make([]byte, blockSize)}
	}
	oldest := int64(-1)
	for n, b := range a.blocks {
		if oldest < 0 || b.used < a.blocks[oldest].used {
			oldest = n
		}
	}
	b := a.blocks[oldest]
	delete(a.blocks, oldest)
	return &block{data: b.data[:blockSize]}
}

// stream returns a connection that is at, or a little before, start.
func (a *ReaderAt) stream(start int64) (*Reader, error) {
	for i, s := range a.streams {
		if s.Offset() <= start && start-s.Offset() <= skip {
			a.used[i] = a.tick
			return s, nil
		}
	}
	s, err := NewReader(a.ctx, a.object, Start{Offset: start, Pin: a.info}, a.policy)
	if err != nil {
		return nil, err
	}
	if len(a.streams) < streams {
		a.streams, a.used = append(a.streams, s), append(a.used, a.tick)
		return s, nil
	}
	oldest := 0
	for i := range a.used {
		if a.used[i] < a.used[oldest] {
			oldest = i
		}
	}
	a.streams[oldest].Close()
	a.streams[oldest], a.used[oldest] = s, a.tick
	return s, nil
}

func (a *ReaderAt) drop(stream *Reader) {
	for i, s := range a.streams {
		if s == stream {
			s.Close()
			a.streams = append(a.streams[:i], a.streams[i+1:]...)
			a.used = append(a.used[:i], a.used[i+1:]...)
			return
		}
	}
}

// Close ends the connections.
func (a *ReaderAt) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.streams {
		s.Close()
	}
	a.streams, a.used = nil, nil
	return nil
}
