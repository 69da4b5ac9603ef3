package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"virtctl/internal/cdi/image"
	"virtctl/internal/cdi/qemuimg"
)

// spooled is the format of checkpoints of the first half of a Spool.
const spooled image.Format = "spool"

const (
	infoSeconds = 30 // of processor time for qemu-img info
	toolOutput  = 1 << 20
)

// Spool is the way for images that cannot be decoded in order: it stores src, unpacked, in the file scratch, which is
// resumable like a Copy, and then has qemu-img convert it into target. The caller removes scratch afterwards.
func Spool(ctx context.Context, src io.Reader, scratch, target string, opts Options) (Result, error) {
	opts = opts.withDefaults()
	first := opts
	first.Format, first.Available, first.GrowTo, first.Preallocation = spooled, 0, 0, false
	res, err := copyTo(ctx, src, scratch, first)
	if err != nil {
		return Result{}, err
	}
	out, err := ConvertFile(ctx, scratch, target, opts)
	if err != nil {
		return Result{}, err
	}
	out.SourceBytes, out.Digest, out.Compression = res.SourceBytes, res.Digest, res.Compression
	return out, nil
}

// ConvertFile has qemu-img convert the image in the file path, of any format, into target, with bounded memory and without
// following any other file. The Result has no SourceBytes and no Digest.
func ConvertFile(ctx context.Context, path, target string, opts Options) (Result, error) {
	info, err := inspectFile(path)
	if err != nil {
		return Result{}, err
	}
	if info.Compression != image.None || info.Format == image.Tar {
		return Result{}, fmt.Errorf("%s is a %s%s file and no disk image; give a disk image", path, info.Compression, info.Format)
	}
	format := info.Format
	if format == image.ISO {
		format = image.Raw
	}
	return convert(ctx, format, map[string]any{"driver": "file", "filename": path}, target, opts)
}

// ConvertNBD is ConvertFile for an image of the given format that an NBD server offers on a unix socket, as nbdkit does for
// an image on an HTTP server that answers ranges. The caller has inspected the image's head.
func ConvertNBD(ctx context.Context, format image.Format, socket, target string, opts Options) (Result, error) {
	if format == image.ISO {
		format = image.Raw
	}
	server := map[string]any{"type": "unix", "path": socket}
	return convert(ctx, format, map[string]any{"driver": "nbd", "server": server}, target, opts)
}

// convert has qemu-img write the image in the block node file, as this format and nothing else, into target.
func convert(ctx context.Context, format image.Format, file map[string]any, target string, opts Options) (Result, error) {
	source, err := blockSource(format, file)
	if err != nil {
		return Result{}, err
	}
	virtual, err := toolInfo(ctx, format, source)
	if err != nil {
		return Result{}, err
	}
	out, err := openTarget(target, opts)
	if err != nil {
		return Result{}, err
	}
	defer out.f.Close()
	if err := out.begin(virtual); err != nil {
		return Result{}, err
	}
	args := []string{"convert", "-n", "--target-is-zero", "-W", "-m", "4", "-t", "writeback", "-O", "raw"}
	if out.full {
		args = append(args, "-S", "0")
	}
	if _, err := runTool(ctx, target, 0, append(args, source, "file:"+target)...); err != nil {
		return Result{}, err
	}
	if err := out.finish(virtual, opts.GrowTo); err != nil {
		return Result{}, err
	}
	return Result{Format: format, VirtualSize: virtual, Written: out.allocated(), Preallocated: opts.Preallocation}, nil
}

func inspectFile(path string) (image.Info, error) {
	f, err := os.Open(path)
	if err != nil {
		return image.Info{}, fmt.Errorf("open the image: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return image.Info{}, fmt.Errorf("look at the image: %w", err)
	}
	return image.Inspect(f, st.Size())
}

// blockSource names the image for qemu-img so that it opens this one file, as this format, and nothing else.
func blockSource(format image.Format, file map[string]any) (string, error) {
	node := map[string]any{"driver": string(format), "file": file}
	if format == image.QCOW2 {
		node["backing"] = nil
	}
	b, err := json.Marshal(node)
	if err != nil {
		return "", fmt.Errorf("name the image for qemu-img: %w", err)
	}
	return "json:" + string(b), nil
}

// toolInfo asks qemu-img for the size, and looks once more for other files.
func toolInfo(ctx context.Context, format image.Format, source string) (int64, error) {
	b, err := runTool(ctx, "", infoSeconds, "info", "--output=json", source)
	if err != nil {
		return 0, err
	}
	var info struct {
		VirtualSize int64  `json:"virtual-size"`
		Backing     string `json:"backing-filename"`
		Specific    struct {
			Data struct {
				DataFile string `json:"data-file"`
			} `json:"data"`
		} `json:"format-specific"`
	}
	if err := json.Unmarshal(b, &info); err != nil {
		return 0, fmt.Errorf("read what qemu-img says about the image: %w", err)
	}
	switch {
	case info.Backing != "":
		return 0, &image.RefusedError{Format: format, Reason: image.BackingFile}
	case info.Specific.Data.DataFile != "":
		return 0, &image.RefusedError{Format: format, Reason: image.DataFile}
	}
	return info.VirtualSize, nil
}

// runTool runs qemu-img within limits. Target is the path that an ENOSPC would be about.
func runTool(ctx context.Context, target string, cpu int, args ...string) ([]byte, error) {
	cmd := qemuimg.Command(ctx, cpu, args...)
	var stdout, stderr boundedBuffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err == nil {
		return stdout.b, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	text := strings.TrimSpace(string(stderr.b))
	if strings.Contains(text, syscall.ENOSPC.Error()) || strings.Contains(text, "No space left") {
		return nil, &NoSpaceError{Target: target, Err: syscall.ENOSPC}
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGXCPU {
		return nil, fmt.Errorf("qemu-img %s took more than %d seconds; the image is not usable, get it again", args[0], cpu)
	}
	return nil, fmt.Errorf("qemu-img %s: %w: %.1000s; check the image with: qemu-img check", args[0], err, text)
}

// boundedBuffer keeps the first bytes of a program's output.
type boundedBuffer struct{ b []byte }

func (w *boundedBuffer) Write(p []byte) (int, error) {
	w.b = append(w.b, p[:min(len(p), toolOutput-len(w.b))]...)
	return len(p), nil
}
