package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

// Sizes of random access. An image's tables are read again and again, its data mostly in order from a few places.
const (
	blockSize  = 256 << 10
	blockCount = 64
	streams    = 4
	// skip is how far a stream reads on to reach an offset, rather than to open another one.
	skip = 1 << 20
	// A request is for a little, and for twice as much each time that it is read to its end: what is asked for and not read is sent for
	// nothing.
	firstPart = 1 << 20
	largePart = 256 << 20
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
	streams []*run
	tick    int64
}

// run is a place of the object that is read on from.
type run struct {
	reader *Reader
	used   int64 // when it was used last
	part   int64 // size of the request
	end    int64
}

func (r *run) offset() int64 { return r.reader.Offset() }

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
	from, err := a.run(start)
	if err != nil {
		return nil, err
	}
	for at := from.offset() / blockSize; ; at++ {
		data, err := a.fill(from, at)
		if err != nil {
			a.drop(from)
			return nil, err
		}
		if at == n {
			return data, nil
		}
	}
}

// fill reads the run's next block, which is block n, and keeps it.
func (a *ReaderAt) fill(from *run, n int64) ([]byte, error) {
	if err := a.extend(from); err != nil {
		return nil, err
	}
	b := a.free()
	b.data = b.data[:min(blockSize, a.info.Size-n*blockSize)]
	if _, err := io.ReadFull(from.reader, b.data); err != nil {
		return nil, fmt.Errorf("read at byte %d: %w", n*blockSize, err)
	}
	b.used = a.tick
	a.blocks[n] = b
	return b.data, nil
}

// extend asks for more when everything that was asked for is read.
func (a *ReaderAt) extend(from *run) error {
	if from.offset() < from.end {
		return nil
	}
	next, err := a.open(from.offset(), min(from.part*2, largePart))
	if err != nil {
		return err
	}
	from.reader.Close()
	from.reader, from.part, from.end = next.reader, next.part, next.end
	return nil
}

func (a *ReaderAt) open(start, part int64) (*run, error) {
	end := min(start+part, a.info.Size)
	r, err := NewReader(a.ctx, a.object, Start{Offset: start, End: end, Pin: a.info}, a.policy)
	if err != nil {
		return nil, err
	}
	return &run{reader: r, used: a.tick, part: part, end: end}, nil
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

// run returns a place that is at, or a little before, start.
func (a *ReaderAt) run(start int64) (*run, error) {
	for _, r := range a.streams {
		if r.offset() <= start && start-r.offset() <= skip {
			r.used = a.tick
			return r, nil
		}
	}
	r, err := a.open(start, firstPart)
	if err != nil {
		return nil, err
	}
	if len(a.streams) == streams {
		a.drop(slices.MinFunc(a.streams, func(x, y *run) int { return cmp.Compare(x.used, y.used) }))
	}
	a.streams = append(a.streams, r)
	return r, nil
}

func (a *ReaderAt) drop(r *run) {
	r.reader.Close()
	a.streams = slices.DeleteFunc(a.streams, func(x *run) bool { return x == r })
}

// Close ends the connections.
func (a *ReaderAt) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.streams {
		r.reader.Close()
	}
	a.streams = nil
	return nil
}
