package stream

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"virtctl/internal/cdi/image"
)

const (
	maxEntries   = 1 << 20
	maxName      = 4096
	extractPiece = 256 << 10
	lostFound    = "lost+found"
)

// EntryError is an archive member that is refused.
type EntryError struct{ Name, Reason string }

func (e *EntryError) Error() string {
	return fmt.Sprintf("the archive's member %.200q is refused: %s; leave it out", e.Name, e.Reason)
}

// Extract unpacks a tar archive, plain or compressed (Content Archive), or the contract's snappy tar (FilesystemClone) into the
// directory dir, and never outside it: names and links that lead out and devices are refused, sizes are bounded by
// opts.Available or the free space. Zeros become holes. Owners and set-user-ID bits are not restored.
func Extract(ctx context.Context, src io.Reader, dir string, opts Options) (Result, error) {
	opts = opts.withDefaults()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h, err := newHasher(nil)
	if err != nil {
		return Result{}, err
	}
	defer h.close()
	x := &extraction{opts: opts, dir: dir, outer: newSource(ctx, src, 0, opts.Size, h)}
	if err := x.open(); err != nil {
		return Result{}, err
	}
	defer x.root.Close()
	if err := x.all(); err != nil {
		if own := x.outer.failure(); own != nil {
			return Result{}, own
		}
		return Result{}, err
	}
	n, err := x.outer.drain(unlimited, func() {})
	if err == nil && opts.Size > 0 && n != opts.Size {
		err = &SourceError{Offset: n, Err: fmt.Errorf("%w: %d bytes were announced", sizeFault(n, opts.Size), opts.Size)}
	}
	if err == nil {
		err = x.sync()
	}
	if err != nil {
		return Result{}, err
	}
	return Result{SourceBytes: n, Digest: h.sum(), Format: image.Tar, Compression: x.comp, VirtualSize: image.Unknown, Written: x.written}, nil
}

type extraction struct {
	opts    Options
	dir     string
	root    *os.Root
	outer   *source
	comp    image.Compression
	room    int64
	written int64
	entries int
	buf     []byte
	times   []dirTime
}

// dirTime is a directory's time, to be set when nothing is put into it any more.
type dirTime struct {
	name string
	at   time.Time
}

func (x *extraction) open() error {
	root, err := os.OpenRoot(x.dir)
	if err != nil {
		return fmt.Errorf("open the target directory: %w", err)
	}
	x.root = root
	x.room = x.opts.Available
	var st unix.Statfs_t
	if x.room <= 0 {
		if err := unix.Statfs(x.dir, &st); err != nil {
			root.Close()
			return fmt.Errorf("look at %s: %w", x.dir, err)
		}
		x.room = int64(st.Bavail) * st.Bsize
	}
	x.buf = make([]byte, extractPiece)
	return nil
}

// all unpacks every member.
func (x *extraction) all() error {
	in := bufio.NewReaderSize(&restReader{s: x.outer}, image.HeadSize)
	head, err := in.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if _, x.comp = image.Sniff(head); x.opts.Content == FilesystemClone {
		x.comp = snappy
	}
	z, err := decompressor(in, x.comp)
	if err != nil {
		return err
	}
	defer z.Close()
	t := tar.NewReader(z)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return x.finish(z)
		}
		if err != nil {
			return x.archiveError(err)
		}
		if err := x.member(h, t); err != nil {
			return err
		}
		x.opts.Progress(x.outer.arrived.Load(), x.opts.Size)
	}
}

// finish sets the directories' times and reads what follows the archive, which a compression's checksum needs.
func (x *extraction) finish(z io.Reader) error {
	for i := len(x.times) - 1; i >= 0; i-- {
		if err := x.root.Chtimes(x.times[i].name, x.times[i].at, x.times[i].at); err != nil {
			return targetError(x.dir, "set times in", err)
		}
	}
	n, err := io.CopyN(io.Discard, z, maxTrailer)
	if err == nil {
		return &image.CorruptError{Format: image.Tar, Detail: fmt.Sprintf("more than %d bytes follow it", n)}
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func (x *extraction) archiveError(err error) error {
	var ce *image.CompressionError
	if errors.As(err, &ce) {
		return err
	}
	return &image.CorruptError{Format: image.Tar, Detail: err.Error()}
}

// member makes one file, directory or link.
func (x *extraction) member(h *tar.Header, r io.Reader) error {
	if x.entries++; x.entries > maxEntries {
		return &EntryError{Name: h.Name, Reason: fmt.Sprintf("there are more than %d members", maxEntries)}
	}
	name := path.Clean(strings.TrimLeft(h.Name, "/"))
	switch {
	case len(h.Name) > maxName || len(h.Linkname) > maxName:
		return &EntryError{Name: h.Name, Reason: "its name is too long"}
	case !fs.ValidPath(name):
		return &EntryError{Name: h.Name, Reason: "it leads out of the volume"}
	case name == lostFound || strings.HasPrefix(name, lostFound+"/"):
		return nil
	}
	if h.Typeflag != tar.TypeXGlobalHeader {
		if err := x.parents(h, path.Dir(name)); err != nil {
			return err
		}
	}
	mode := fs.FileMode(h.Mode) & fs.ModePerm
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil
	case tar.TypeDir:
		return x.directory(h, name, mode)
	case tar.TypeReg, tar.TypeGNUSparse:
		return x.file(h, name, mode, r)
	case tar.TypeSymlink:
		return x.symlink(h, name)
	case tar.TypeLink:
		return x.hardlink(h, name)
	}
	return &EntryError{Name: h.Name, Reason: "it is neither a file, a directory nor a link"}
}

// parents makes the directories above a member. None may be a link: then the depths that links are checked by would be wrong.
func (x *extraction) parents(h *tar.Header, dir string) error {
	if dir == "." {
		return nil
	}
	if err := x.root.MkdirAll(dir, 0o755); err != nil {
		return x.fault(h, err)
	}
	for ; dir != "."; dir = path.Dir(dir) {
		if st, err := x.root.Lstat(dir); err != nil || !st.IsDir() {
			return &EntryError{Name: h.Name, Reason: "a directory above it is a link"}
		}
	}
	return nil
}

func (x *extraction) fault(h *tar.Header, err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return &NoSpaceError{Target: x.dir, Err: err}
	}
	return &EntryError{Name: h.Name, Reason: err.Error()}
}

func (x *extraction) directory(h *tar.Header, name string, mode fs.FileMode) error {
	if name != "." {
		if err := x.root.Mkdir(name, mode|0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return x.fault(h, err)
		}
	}
	if len(x.times) < maxEntries/16 && name != "." {
		x.times = append(x.times, dirTime{name, h.ModTime})
	}
	return nil
}

// file writes a member's content, leaving holes where it is zero.
func (x *extraction) file(h *tar.Header, name string, mode fs.FileMode, r io.Reader) error {
	if h.Size < 0 || h.Size > x.room {
		return &TooLargeError{VirtualSize: h.Size, Available: x.room}
	}
	f, err := x.create(name, mode|0o600)
	if err != nil {
		return x.fault(h, err)
	}
	defer f.Close()
	t := &target{f: f, path: x.dir, virtual: image.Unknown, available: x.room}
	for off := int64(0); ; {
		n, err := io.ReadFull(r, x.buf)
		if n > 0 {
			if werr := t.write(off, x.buf[:n]); werr != nil {
				return werr
			}
			off += int64(n)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && off == h.Size {
			break
		}
		if err != nil {
			return x.archiveError(err)
		}
	}
	x.written += t.written.Load()
	x.room -= t.written.Load()
	if err := f.Truncate(h.Size); err != nil {
		return x.fault(h, err)
	}
	if err := x.root.Chtimes(name, h.ModTime, h.ModTime); err != nil {
		return x.fault(h, err)
	}
	return nil
}

// create makes a new file, in place of one of the same name but never through a link of that name.
func (x *extraction) create(name string, mode fs.FileMode) (*os.File, error) {
	if err := x.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return x.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
}

// symlink refuses links that lead out: programs that read the volume later may follow them.
func (x *extraction) symlink(h *tar.Header, name string) error {
	if path.IsAbs(h.Linkname) || climbsLate(h.Linkname) || !fs.ValidPath(path.Join(path.Dir(name), h.Linkname)) {
		return &EntryError{Name: h.Name, Reason: "its link leads out of the volume"}
	}
	if err := x.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return x.fault(h, err)
	}
	if err := x.root.Symlink(h.Linkname, name); err != nil {
		return x.fault(h, err)
	}
	return nil
}

// climbsLate finds ".." after another name: where that leads depends on whether the name is a link.
func climbsLate(link string) bool {
	named := false
	for part := range strings.SplitSeq(link, "/") {
		switch part {
		case "", ".":
		case "..":
			if named {
				return true
			}
		default:
			named = true
		}
	}
	return false
}

func (x *extraction) hardlink(h *tar.Header, name string) error {
	old := path.Clean(strings.TrimLeft(h.Linkname, "/"))
	if !fs.ValidPath(old) {
		return &EntryError{Name: h.Name, Reason: "its link leads out of the volume"}
	}
	if old == name {
		return nil
	}
	if st, err := x.root.Lstat(old); err != nil || !st.Mode().IsRegular() {
		return &EntryError{Name: h.Name, Reason: "it is a link to what is not a file of the archive"}
	}
	if err := x.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return x.fault(h, err)
	}
	if err := x.root.Link(old, name); err != nil {
		return x.fault(h, err)
	}
	return nil
}

// sync makes everything last, once.
func (x *extraction) sync() error {
	d, err := x.root.Open(".")
	if err != nil {
		return targetError(x.dir, "sync", err)
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return targetError(x.dir, "sync", err)
	}
	return nil
}
