package stream

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/klauspost/compress/s2"

	"virtctl/internal/cdi/image"
)

// PackDirectory writes the content of dir to w as the contract's FilesystemClone: a tar archive in snappy frames. Files,
// directories and links are taken; lost+found, sockets, pipes and devices are not. The Result is about the stream.
func PackDirectory(ctx context.Context, dir string, w io.Writer, progress func(done, total int64)) (Result, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Result{}, fmt.Errorf("open the source directory: %w", err)
	}
	defer root.Close()
	if progress == nil {
		progress = func(int64, int64) {}
	}
	sum, count := sha256.New(), &counter{}
	z := s2.NewWriter(io.MultiWriter(w, sum, count), s2.WriterSnappyCompat(), s2.WriterConcurrency(1), s2.WriterBlockSize(64<<10))
	p := &packer{ctx: ctx, root: root, tar: tar.NewWriter(z), progress: progress}
	err = fs.WalkDir(root.FS(), ".", p.member)
	if err = errors.Join(err, p.tar.Close(), z.Close()); err != nil {
		return Result{}, fmt.Errorf("pack %s: %w", dir, err)
	}
	return Result{SourceBytes: count.n, Digest: sum.Sum(nil), Format: image.Tar, Compression: snappy, VirtualSize: image.Unknown, Written: p.done}, nil
}

type counter struct{ n int64 }

func (c *counter) Write(b []byte) (int, error) { c.n += int64(len(b)); return len(b), nil }

type packer struct {
	ctx      context.Context
	root     *os.Root
	tar      *tar.Writer
	done     int64
	progress func(done, total int64)
}

func (p *packer) member(name string, e fs.DirEntry, err error) error {
	if err == nil && p.ctx.Err() != nil {
		err = context.Cause(p.ctx)
	}
	if err != nil || name == "." {
		return err
	}
	if name == lostFound {
		return fs.SkipDir
	}
	kind := e.Type()
	if kind != 0 && kind != fs.ModeDir && kind != fs.ModeSymlink {
		return nil
	}
	st, err := e.Info()
	if err != nil {
		return err
	}
	link := ""
	if kind == fs.ModeSymlink {
		if link, err = p.root.Readlink(name); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(st, link)
	if err != nil {
		return err
	}
	if h.Name = name; kind == fs.ModeDir {
		h.Name += "/"
	}
	if err := p.tar.WriteHeader(h); err != nil || kind != 0 {
		return err
	}
	f, err := p.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(p.tar, io.LimitReader(f, st.Size()))
	p.done += n
	p.progress(p.done, image.Unknown)
	return err
}
