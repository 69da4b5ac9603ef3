package stream

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"

	"github.com/klauspost/compress/s2"
	"golang.org/x/sys/unix"

	"virtctl/internal/cdi/image"
)

// A sparse clone is a disk with its holes left out, for copies between our own pods:
//
//	"VIRTCTL-SPARSE1\n", disk size (8), CRC (4)
//	frame: offset on the disk (8), length there (4), length here (4), CRC of the payload (4), CRC of this header (4), payload
//	end: disk size (8), 0 (4), 0 (4), 0 (4), CRC of this header (4)
//
// Numbers are big endian, CRCs are CRC-32C. A payload as long as on the disk is plain, a shorter one is an S2 block.
const (
	cloneMagic       = "VIRTCTL-SPARSE1\n"
	cloneHeaderSize  = len(cloneMagic) + 12
	cloneFrameHeader = 24
	cloneBlock       = 1 << 20
	sparseFormat     = image.Format("sparse")
)

// CopyOut writes the disk in path, a raw file or device, to w as a sparse clone (Content SparseClone), which Copy turns into the
// same disk. The same disk gives the same stream: its first skip bytes, which the receiver has, are made but not written.
// The Result is about the whole stream; its Digest is what the receiver's must be.
func CopyOut(ctx context.Context, path string, w io.Writer, skip int64, progress func(done, total int64)) (Result, error) {
	f, err := os.Open(path)
	if err != nil {
		return Result{}, fmt.Errorf("open the disk: %w", err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return Result{}, fmt.Errorf("measure %s: %w", path, err)
	}
	c := &cloneWriter{w: w, skip: skip, hash: sha256.New(), enc: make([]byte, s2.MaxEncodedLen(cloneBlock))}
	if err := c.send(cloneHeader(size)); err != nil {
		return Result{}, err
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	buf := make([]byte, cloneBlock)
	for off := int64(0); off < size; {
		if ctx.Err() != nil {
			return Result{}, context.Cause(ctx)
		}
		if off = nextData(f, off, size); off >= size {
			break
		}
		b := buf[:min(int64(len(buf)), size-off)]
		if _, err := f.ReadAt(b, off); err != nil {
			return Result{}, fmt.Errorf("read %s: %w", path, err)
		}
		if err := c.block(off, b); err != nil {
			return Result{}, err
		}
		off += int64(len(b))
		progress(off, size)
	}
	if err := c.send(frameHeader(size, 0, nil)); err != nil {
		return Result{}, err
	}
	progress(size, size)
	return Result{SourceBytes: c.sent, Digest: c.hash.Sum(nil), Format: sparseFormat, VirtualSize: size, Written: c.data}, nil
}

// nextData is where data goes on, in whole blocks so that a stream does not depend on how a filesystem stores holes.
func nextData(f *os.File, off, size int64) int64 {
	next, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return size
	case err != nil:
		return off
	}
	return max(off, next/cloneBlock*cloneBlock)
}

type cloneWriter struct {
	w          io.Writer
	hash       hash.Hash
	skip       int64
	sent, data int64
	enc        []byte
}

// block sends what is not zero at both ends of b.
func (c *cloneWriter) block(off int64, b []byte) error {
	lead := zeroPrefix(off, b)
	off, b = off+int64(lead), b[lead:]
	for len(b) > holeBlock && isZero(b[len(b)-holeBlock:]) {
		b = b[:len(b)-holeBlock]
	}
	if len(b) == 0 {
		return nil
	}
	payload := s2.Encode(c.enc, b)
	if len(payload) >= len(b) {
		payload = b
	}
	c.data += int64(len(b))
	if err := c.send(frameHeader(off, len(b), payload)); err != nil {
		return err
	}
	return c.send(payload)
}

func (c *cloneWriter) send(b []byte) error {
	c.hash.Write(b)
	from := min(max(0, c.skip-c.sent), int64(len(b)))
	c.sent += int64(len(b))
	if b = b[from:]; len(b) == 0 {
		return nil
	}
	if _, err := c.w.Write(b); err != nil {
		return fmt.Errorf("send the disk: %w", err)
	}
	return nil
}

func crc(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func cloneHeader(size int64) []byte {
	b := binary.BigEndian.AppendUint64([]byte(cloneMagic), uint64(size))
	return binary.BigEndian.AppendUint32(b, crc(b))
}

func frameHeader(off int64, n int, payload []byte) []byte {
	be := binary.BigEndian
	b := be.AppendUint64(nil, uint64(off))
	b = be.AppendUint32(b, uint32(n))
	b = be.AppendUint32(b, uint32(len(payload)))
	sum := uint32(0)
	if n > 0 {
		sum = crc(payload)
	}
	b = be.AppendUint32(b, sum)
	return be.AppendUint32(b, crc(b))
}

// cloneDecoder reads a sparse clone. Every frame is a place to go on from.
type cloneDecoder struct {
	src  *source
	eng  *engine
	pos  int64
	size int64
	done bool
}

func badClone(what string) error { return &image.CorruptError{Format: sparseFormat, Detail: what} }

// openClone reads the header.
func openClone(src *source, eng *engine) (*cloneDecoder, error) {
	v := src.view(0, cloneHeaderSize)
	defer v.release()
	d := &cloneDecoder{src: src, eng: eng, pos: int64(cloneHeaderSize)}
	at := len(cloneMagic)
	if len(v.b) < cloneHeaderSize || string(v.b[:at]) != cloneMagic || crc(v.b[:at+8]) != binary.BigEndian.Uint32(v.b[at+8:]) {
		return nil, badClone("it has no header")
	}
	d.size = int64(binary.BigEndian.Uint64(v.b[at:]))
	if d.size < 0 {
		return nil, badClone("its size is negative")
	}
	return d, nil
}

func (d *cloneDecoder) step() (bool, error) {
	if d.done {
		return true, nil
	}
	be := binary.BigEndian
	h := d.src.view(d.pos, cloneFrameHeader)
	defer h.release()
	if len(h.b) < cloneFrameHeader {
		return false, d.ended()
	}
	off, n, enc, sum := be.Uint64(h.b), int64(be.Uint32(h.b[8:])), int64(be.Uint32(h.b[12:])), be.Uint32(h.b[16:])
	if crc(h.b[:20]) != be.Uint32(h.b[20:]) || n > cloneBlock || enc > n || off > uint64(d.size) || int64(off)+n > d.size {
		return false, badClone(fmt.Sprintf("the frame at offset %d is damaged", d.pos))
	}
	if n == 0 {
		if int64(off) != d.size {
			return false, badClone("it has two sizes")
		}
		d.pos += cloneFrameHeader
		d.src.advance(d.pos)
		d.done = true
		return true, nil
	}
	v := d.src.view(d.pos+cloneFrameHeader, int(enc))
	if int64(len(v.b)) < enc {
		v.release()
		return false, d.ended()
	}
	d.eng.submit(job{src: v, off: int64(off), then: func(w *worker, b []byte) ([]byte, error) { return w.cloneBlock(b, int(n), sum) }})
	d.pos += cloneFrameHeader + enc
	d.src.advance(d.pos)
	return false, nil
}

func (d *cloneDecoder) ended() error {
	if err := d.src.failure(); err != nil {
		return err
	}
	return &SourceError{Offset: d.src.have, Err: io.ErrUnexpectedEOF}
}

// cloneBlock checks and unpacks a frame's payload.
func (w *worker) cloneBlock(b []byte, n int, sum uint32) ([]byte, error) {
	if crc(b) != sum {
		return nil, badClone("a checksum is wrong")
	}
	if len(b) == n {
		return b, nil
	}
	if m, err := s2.DecodedLen(b); err != nil || m != n {
		return nil, badClone("a frame has another length than it says")
	}
	out, err := s2.Decode(w.buffer(n), b)
	if err != nil {
		return nil, badClone(err.Error())
	}
	return out, nil
}

func (d *cloneDecoder) offset() int64          { return d.pos }
func (d *cloneDecoder) state() ([]byte, error) { return json.Marshal(d.done) }
func (d *cloneDecoder) virtual() int64         { return d.size }
func (d *cloneDecoder) format() image.Format   { return sparseFormat }
