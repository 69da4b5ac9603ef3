package imageupload

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"

	"virtctl/internal/cdi/image"
	"virtctl/internal/cdi/sparse"
)

// content is what is sent: a file's own bytes, or a qcow2 image of the same disk without its zeros.
type content struct {
	// from is nil for a pipe.
	from   io.ReaderAt
	length int64
	// layout tells what stands for the file from the file itself, of which it is empty.
	layout string
}

// own is the source as it is.
func (s *source) own() *content {
	if s.file == nil {
		return &content{length: s.length}
	}
	return &content{from: s.file, length: s.length}
}

// look begins to look for zeros in a raw image, beside what else there is to do. Where it fails, the image is sent as it is.
func (s *source) look(ctx context.Context) {
	if s.file == nil || s.archive || !s.regular || s.info.Format != string(image.Raw) {
		return
	}
	s.looked = make(chan struct{})
	ctx, s.stop = context.WithCancel(ctx)
	go func() {
		defer close(s.looked)
		if packed, err := sparse.Of(ctx, s.file, s.length); err == nil && packed != nil {
			s.without = &content{from: packed, length: packed.Size(), layout: packed.Fingerprint()}
		}
	}()
}

// looking tells whether less than the whole file may have to be sent, and nobody knows yet.
func (s *source) looking() bool {
	if s.looked == nil {
		return false
	}
	select {
	case <-s.looked:
		return false
	default:
		return true
	}
}

// contents are what may be sent instead of each other, the shortest first and the source itself last.
func (s *source) contents(ctx context.Context) ([]*content, error) {
	if s.looked != nil {
		select {
		case <-s.looked:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if s.without == nil {
		return []*content{s.own()}, nil
	}
	return []*content{s.without, s.own()}, nil
}

// edge is how much of each end of a file its identity looks at.
const edge = 64 << 10

// identity tells this content from another one without reading all of it: length, time of the last change, both ends, and which of a file's
// contents it is. So the offset in one of them is never taken for one in the other.
func (s *source) identity(c *content) (string, error) {
	if s.file == nil {
		return "", nil
	}
	sum := sha256.New()
	for _, n := range []int64{s.length, s.changed.UnixNano()} {
		_ = binary.Write(sum, binary.BigEndian, n)
	}
	for _, at := range []int64{0, max(0, s.length-edge)} {
		if _, err := io.Copy(sum, io.NewSectionReader(s.file, at, edge)); err != nil {
			return "", fmt.Errorf("read %s: %w", s.name, err)
		}
	}
	sum.Write([]byte(c.layout))
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// digest reads the whole content; it ends early with the context.
func (s *source) digest(ctx context.Context, c *content) (string, error) {
	sum := sha256.New()
	buffer := make([]byte, 1<<20)
	for at := int64(0); at < c.length; {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		n, err := c.from.ReadAt(buffer[:min(int64(len(buffer)), c.length-at)], at)
		sum.Write(buffer[:n])
		at += int64(n)
		if err != nil && (!errors.Is(err, io.EOF) || at < c.length) {
			return "", fmt.Errorf("read %s: %w", s.name, err)
		}
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

// find gives that content whose digest is the known one; nil when there is none. A length that is known too saves reading. An earlier upload
// may have sent the other content of the same file.
func (s *source) find(ctx context.Context, known, length string) (*content, error) {
	contents := []*content{s.own()}
	if length != strconv.FormatInt(s.length, 10) {
		var err error
		if contents, err = s.contents(ctx); err != nil {
			return nil, err
		}
	}
	for _, c := range contents {
		if length != "" && length != strconv.FormatInt(c.length, 10) {
			continue
		}
		digest, err := s.digest(ctx, c)
		if err != nil {
			return nil, err
		}
		if digest == known {
			return c, nil
		}
	}
	return nil, nil
}
