package worker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"virtctl/internal/cdi/image"
	"virtctl/internal/cdi/qemuimg"
	"virtctl/internal/cdi/source"
	"virtctl/internal/cdi/stream"
	"virtctl/internal/cdi/worker/nbd"
)

const (
	// diskMode is what the contract gives to disk.img.
	diskMode   = 0o660
	toolOutput = 64 << 10
)

// conversion turns a remote image, which cannot be decoded in order, into the disk: by random access, without scratch space.
type conversion struct {
	at       *source.ReaderAt
	target   string
	block    bool
	opts     stream.Options
	dir      string // for the socket
	cache    string // mode of qemu-img
	progress func(percent float64)
}

// run converts. What qemu-img opens is this one file, in the format that we found and for which we know that it refers to no other file.
func (c *conversion) run(ctx context.Context) (stream.Result, error) {
	info, err := image.Inspect(c.at, c.at.Size())
	if err != nil {
		return stream.Result{}, err
	}
	if c.opts.Available > 0 && info.VirtualSize > c.opts.Available {
		return stream.Result{}, &stream.TooLargeError{VirtualSize: info.VirtualSize, Available: c.opts.Available}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	socket, served, err := c.serve(ctx)
	if err != nil {
		return stream.Result{}, err
	}
	filled, err := c.prepare(info.VirtualSize)
	if err != nil {
		return stream.Result{}, err
	}
	err = c.tool(ctx, info.Format, socket, filled)
	cancel()
	if failed := <-served; failed != nil {
		// The source's own failure says more than qemu-img's.
		err = failed
	}
	if err != nil {
		return stream.Result{}, err
	}
	return stream.Result{SourceBytes: c.at.Size(), Format: info.Format, VirtualSize: info.VirtualSize, Preallocated: c.opts.Preallocation}, c.finish(info.VirtualSize)
}

func (c *conversion) serve(ctx context.Context) (string, chan error, error) {
	dir, err := os.MkdirTemp(c.dir, "nbd")
	if err != nil {
		return "", nil, fmt.Errorf("make a folder for the image's socket: %w", err)
	}
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		os.RemoveAll(dir)
		return "", nil, fmt.Errorf("open the image's socket: %w", err)
	}
	served := make(chan error, 1)
	go func() {
		served <- nbd.Serve(ctx, l, nbd.Export{Reader: c.at, Size: c.at.Size()})
		os.RemoveAll(dir)
	}()
	return socket, served, nil
}

// prepare makes the disk; filled says that space could not be reserved and must be written.
func (c *conversion) prepare(size int64) (filled bool, err error) {
	if c.block {
		return c.opts.Preallocation, nil
	}
	f, err := os.OpenFile(c.target, os.O_RDWR|os.O_CREATE|os.O_TRUNC, diskMode)
	if err != nil {
		return false, fmt.Errorf("make the disk: %w", err)
	}
	defer f.Close()
	if err := errors.Join(f.Chmod(diskMode), f.Truncate(size)); err != nil {
		return false, fmt.Errorf("make the disk: %w", err)
	}
	if c.opts.Preallocation {
		switch err := unix.Fallocate(int(f.Fd()), 0, 0, max(size, c.opts.GrowTo)); {
		case errors.Is(err, unix.ENOSPC):
			return false, &stream.NoSpaceError{Target: c.target, Err: err}
		case err != nil:
			return true, nil
		}
	}
	return false, nil
}

// finish makes the disk as large as it shall be, and safe.
func (c *conversion) finish(size int64) error {
	f, err := os.OpenFile(c.target, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open the disk: %w", err)
	}
	defer f.Close()
	if !c.block && c.opts.GrowTo > size {
		err = f.Truncate(c.opts.GrowTo)
	}
	if err = errors.Join(err, f.Sync()); err != nil {
		return fmt.Errorf("complete the disk: %w", err)
	}
	return nil
}

// cacheMode falls back to the page cache where the target cannot do without it.
func (c *conversion) cacheMode() string {
	if c.cache != "none" {
		return c.cache
	}
	fd, err := unix.Open(c.target, unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return "writeback"
	}
	unix.Close(fd)
	return c.cache
}

func (c *conversion) tool(ctx context.Context, format image.Format, socket string, filled bool) error {
	driver := string(format)
	if format == image.ISO {
		driver = string(image.Raw)
	}
	node := map[string]any{"driver": driver, "file": map[string]any{"driver": "nbd", "server": map[string]any{"type": "unix", "path": socket}}}
	if format == image.QCOW2 {
		node["backing"] = nil
	}
	spec, err := json.Marshal(node)
	if err != nil {
		return fmt.Errorf("name the image for qemu-img: %w", err)
	}
	args := []string{"convert", "-p", "-n", "-W", "-m", "4", "-t", c.cacheMode(), "-O", "raw"}
	switch {
	case filled:
		args = append(args, "-S", "0")
	case !c.block:
		// A device may hold anything; a file that was just made is empty.
		args = append(args, "--target-is-zero")
	}
	cmd := qemuimg.Command(ctx, 0, append(args, "json:"+string(spec), c.target)...)
	stderr := &bounded{}
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start qemu-img: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start qemu-img, which must be in the worker's image: %w", err)
	}
	c.follow(out)
	if err := cmd.Wait(); err != nil {
		return toolError(ctx, c.target, err, stderr.String())
	}
	return nil
}

// follow reads "(12.34/100%)" as it changes on one line.
func (c *conversion) follow(r io.Reader) {
	lines := bufio.NewScanner(r)
	lines.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		if i := bytes.IndexAny(data, "\r\n"); i >= 0 {
			return i + 1, data[:i], nil
		}
		if atEOF || len(data) > 1024 {
			return len(data), nil, nil
		}
		return 0, nil, nil
	})
	for lines.Scan() {
		text := strings.TrimSpace(strings.Trim(strings.TrimSpace(lines.Text()), "()"))
		done, _, _ := strings.Cut(text, "/")
		if v, err := strconv.ParseFloat(strings.TrimSpace(done), 64); err == nil {
			c.progress(v)
		}
	}
	_, _ = io.Copy(io.Discard, r)
}

func toolError(ctx context.Context, target string, err error, text string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	text = strings.TrimSpace(text)
	if strings.Contains(text, syscall.ENOSPC.Error()) || strings.Contains(text, "No space left") {
		return &stream.NoSpaceError{Target: target, Err: syscall.ENOSPC}
	}
	return fmt.Errorf("qemu-img convert: %w: %.1000s: check the image with: qemu-img check", err, text)
}

// bounded keeps the first bytes of a program's output.
type bounded struct{ strings.Builder }

func (b *bounded) Write(p []byte) (int, error) {
	b.Builder.Write(p[:min(len(p), max(0, toolOutput-b.Len()))])
	return len(p), nil
}
