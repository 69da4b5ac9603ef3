package worker

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/stream"
)

// blank makes an empty disk as large as was asked for. A device is one already: what was in it is its storage's business.
func (im *importer) blank(ctx context.Context) (names.TerminationMessage, error) {
	size := im.opts.GrowTo
	if size == 0 {
		size = im.opts.Available
	}
	res := stream.Result{Format: "raw", VirtualSize: size}
	if im.vol.Block() {
		if im.opts.Preallocation {
			if err := im.fill(ctx, size); err != nil {
				return names.TerminationMessage{}, err
			}
			res.Preallocated = true
		}
		im.progress.SetPercent(100)
		return im.finished(res), nil
	}
	f, err := os.OpenFile(im.vol.Disk, os.O_RDWR|os.O_CREATE|os.O_TRUNC, diskMode)
	if err != nil {
		return names.TerminationMessage{}, fmt.Errorf("make the disk: %w", err)
	}
	defer f.Close()
	if err := errors.Join(f.Chmod(diskMode), f.Truncate(size)); err != nil {
		return names.TerminationMessage{}, fmt.Errorf("make the disk: %w", err)
	}
	if im.opts.Preallocation {
		if err := im.reserve(ctx, f, size); err != nil {
			return names.TerminationMessage{}, err
		}
		res.Preallocated = true
	}
	if err := f.Sync(); err != nil {
		return names.TerminationMessage{}, fmt.Errorf("complete the disk: %w", err)
	}
	im.progress.SetPercent(100)
	return im.finished(res), nil
}

func (im *importer) finished(res stream.Result) names.TerminationMessage {
	im.in = &input{labels: func() map[string]string { return nil }}
	return im.message(res)
}

// reserve takes all the disk's space, by asking the filesystem for it or else by writing.
func (im *importer) reserve(ctx context.Context, f *os.File, size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSPC):
		return &stream.NoSpaceError{Target: im.vol.Disk, Err: err}
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
		return im.fill(ctx, size)
	}
	return fmt.Errorf("reserve the disk's space: %w", err)
}

// fill writes zeros over the whole disk.
func (im *importer) fill(ctx context.Context, size int64) error {
	f, err := os.OpenFile(im.vol.Disk, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("open the disk: %w", err)
	}
	defer f.Close()
	zeros := make([]byte, 1<<20)
	for off := int64(0); off < size; off += int64(len(zeros)) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		_, err := f.WriteAt(zeros[:min(int64(len(zeros)), size-off)], off)
		if errors.Is(err, unix.ENOSPC) {
			return &stream.NoSpaceError{Target: im.vol.Disk, Err: err}
		}
		if err != nil {
			return fmt.Errorf("write the disk: %w", err)
		}
		im.progress.Set(off, size)
	}
	return f.Sync()
}
