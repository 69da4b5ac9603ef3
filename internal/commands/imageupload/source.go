package imageupload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"virtctl/internal/cdi/image"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
)

// unknown is a length or size that nobody knows before the end.
const unknown = int64(-1)

// source is where the image comes from.
type source struct {
	// name is what the user wrote.
	name string
	// file is nil when the image comes from a pipe.
	file *os.File
	// stream is the pipe, with what was read of it to recognise it put back.
	stream  io.Reader
	length  int64
	changed time.Time
	regular bool
	info    described
	archive bool
	// looked is closed when without, the file without its zeros, is known; nil where there is nothing to look for. without stays nil where
	// leaving the zeros out does not pay.
	looked  chan struct{}
	without *content
	// stop ends the look for zeros.
	stop context.CancelFunc
	// remote is the address of an image that the cluster fetches itself.
	remote *url.URL
}

// described is what the image is.
type described struct {
	Format      string
	VirtualSize int64
}

func open(ctx context.Context, f *factory.Factory, opts *Options) (*source, error) {
	path := opts.Path
	if opts.Archive != "" {
		path = opts.Archive
	}
	if path == "-" {
		return openPipe(f.Streams.In, opts)
	}
	if address, err := url.Parse(path); err == nil && address.Host != "" && strings.Contains(path, "://") {
		return openRemote(ctx, f, opts, address)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, problem.With(problem.Usage, fmt.Errorf("read the image: %w", err))
	}
	src, err := describeFile(file, opts)
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return src, nil
}

func describeFile(file *os.File, opts *Options) (*source, error) {
	stat, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the image: %w", err)
	}
	src := &source{name: file.Name(), file: file, length: stat.Size(), changed: stat.ModTime(), regular: stat.Mode().IsRegular(), archive: opts.Archive != ""}
	if !src.regular {
		// A block device knows its size by its end; directories and the like do not have one.
		if src.length, err = file.Seek(0, io.SeekEnd); err != nil || stat.IsDir() {
			return nil, problem.Usagef("%s is not an image file; a directory goes through a pipe: tar c . | virtctl image-upload dv NAME --archive-path -", file.Name())
		}
	}
	if src.length == 0 {
		return nil, problem.Usagef("%s is empty", file.Name())
	}
	if src.info, err = inspect(file, src.length, src.archive); err != nil {
		return nil, problem.With(problem.Usage, fmt.Errorf("%s: %w", file.Name(), err))
	}
	return src, nil
}

func openPipe(in io.Reader, opts *Options) (*source, error) {
	head := make([]byte, image.HeadSize)
	n, err := io.ReadFull(in, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("read the image from the pipe: %w", err)
	}
	if n == 0 {
		return nil, problem.Usagef("the pipe is empty: nothing was written to it")
	}
	head = head[:n]
	length := unknown
	if err != nil {
		length = int64(n)
	}
	src := &source{name: "-", stream: io.MultiReader(bytes.NewReader(head), in), length: unknown, archive: opts.Archive != ""}
	if src.info, err = inspect(bytes.NewReader(head), length, src.archive); err != nil {
		return nil, problem.With(problem.Usage, fmt.Errorf("the pipe: %w", err))
	}
	return src, nil
}

// inspect tells what the image is; only an archive may be one.
func inspect(r io.ReaderAt, length int64, archive bool) (described, error) {
	info, err := image.Inspect(r, length)
	if archive {
		// A tar archive's files take about the room of the archive itself.
		if err == nil && info.Format == image.Tar && info.Compression == image.None {
			return described{"archive", length}, nil
		}
		return described{"archive", unknown}, nil
	}
	if err != nil {
		return described{}, err
	}
	if info.Format == image.Tar {
		return described{}, errors.New("this is a tar archive, not a disk image: use --archive-path, or take the disk out of it first")
	}
	d := described{string(info.Format), info.VirtualSize}
	if info.Compression != image.None {
		d.Format = strings.Trim(d.Format+"."+string(info.Compression), ".")
	}
	if d.VirtualSize <= 0 {
		d.VirtualSize = measure(r, info, length)
	}
	return d, nil
}

// measure finds the size of what a compressed file unpacks to. gzip keeps it modulo 4 GiB only, so it has to be unpacked.
func measure(r io.ReaderAt, info image.Info, length int64) int64 {
	switch {
	case length < 0:
		return unknown
	case info.Compression == image.GZ:
		unpacked, err := gzip.NewReader(io.NewSectionReader(r, 0, length))
		if err != nil {
			return unknown
		}
		n, err := io.Copy(io.Discard, unpacked)
		if err != nil {
			return unknown
		}
		return image.Align(n)
	case info.SizeHint > 0:
		return image.Align(info.SizeHint)
	}
	return unknown
}

func (s *source) close() {
	if s.looked != nil {
		s.stop()
		<-s.looked
	}
	if s.file != nil {
		_ = s.file.Close()
	}
}

// resumable tells whether the content can be read again from any place.
func (s *source) resumable() bool { return s.file != nil }

// touched reports that the file was changed while it was read.
func (s *source) touched() error {
	if s.file == nil {
		return nil
	}
	stat, err := s.file.Stat()
	if err != nil {
		return fmt.Errorf("read %s: %w", s.name, err)
	}
	if stat.Mode().IsRegular() && (stat.Size() != s.length || !stat.ModTime().Equal(s.changed)) {
		return problem.New(problem.Conflict, "%s was changed while it was uploaded: upload it again when nobody writes to it", s.name)
	}
	return nil
}
