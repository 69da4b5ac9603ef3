package worker

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"virtctl/internal/cdi/image"
	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/source"
	"virtctl/internal/cdi/stream"
	"virtctl/internal/cdi/worker/metrics"
	"virtctl/internal/cdi/worker/volume"
)

// restarts is how often a source may change while it is read.
const restarts = 3

// importer is one import at work.
type importer struct {
	w        *Worker
	vol      volume.Volume
	in       *input
	sum      *checksum
	opts     stream.Options
	progress *metrics.Progress
}

func (w *Worker) importImage(ctx context.Context) (names.TerminationMessage, error) {
	vol, opts, err := w.target(w.Env(names.EnvImageSize))
	if err != nil {
		return names.TerminationMessage{}, err
	}
	progress := metrics.NewProgress(names.MetricImportProgress, w.Env(names.EnvOwnerUID))
	if _, err := progress.Serve(ctx, w.Metrics); err != nil {
		return names.TerminationMessage{}, err
	}
	opts.Progress = progress.Set
	im := &importer{w: w, vol: vol, opts: opts, progress: progress}
	archive := w.Env(names.EnvContentType) == contentArchive
	if w.Env(names.EnvSource) == names.SourceNone {
		if archive {
			return names.TerminationMessage{}, source.Fatalf(reasonInvalid, "a blank disk cannot have the content type archive: leave the content type out")
		}
		return im.blank(ctx)
	}
	if im.sum, err = parseChecksum(w.Env(names.EnvChecksum)); err != nil {
		return names.TerminationMessage{}, err
	}
	if im.in, err = w.newInput(ctx); err != nil {
		return names.TerminationMessage{}, err
	}
	work := im.disk
	if archive {
		work = im.archive
	}
	res, err := im.repeated(ctx, work)
	if err != nil {
		return names.TerminationMessage{}, errors.Join(err, im.abandon(err))
	}
	progress.SetPercent(100)
	return im.message(res), im.vol.Journal().Remove()
}

// contentArchive is the content type of a tar file whose files go into the claim.
const contentArchive = "archive"

// target finds the claim and how large its disk shall be.
func (w *Worker) target(request string) (volume.Volume, stream.Options, error) {
	vol, err := w.Paths.Find()
	if err != nil {
		return vol, stream.Options{}, err
	}
	overhead, _ := strconv.ParseFloat(w.Env(names.EnvFilesystemOverhead), 64)
	sizes, err := vol.Sizes(request, overhead)
	if err != nil {
		return vol, stream.Options{}, err
	}
	return vol, stream.Options{
		Available: sizes.Available, GrowTo: sizes.GrowTo, Preallocation: w.Env.flag(names.EnvPreallocation),
		CheckpointBytes: w.CheckpointBytes, CheckpointInterval: w.CheckpointInterval,
	}, nil
}

// repeated begins again, a few times, when the source changes while it is read.
func (im *importer) repeated(ctx context.Context, work func(context.Context) (stream.Result, error)) (stream.Result, error) {
	for n := 1; ; n++ {
		res, err := work(ctx)
		if err == nil || !errors.Is(err, source.ErrChanged) || n > restarts {
			return res, err
		}
		im.w.logf("%v: beginning again", err)
		if err := im.vol.Journal().Remove(); err != nil {
			return res, err
		}
	}
}

// abandon leaves nothing that looks like a disk behind a failure that is final: not what a wrong checksum warned of.
func (im *importer) abandon(err error) error {
	if _, fatal := fatalReason(err); !fatal {
		return nil
	}
	return im.vol.Clean()
}

// disk makes the claim's disk from the source's image.
func (im *importer) disk(ctx context.Context) (stream.Result, error) {
	start, opts := im.resume()
	in, err := im.in.open(ctx, start)
	if err != nil {
		return stream.Result{}, err
	}
	defer in.Close()
	info := in.Info()
	opts.Size = info.Size
	opts.Checkpointer = im.checkpointer(info, false)
	res, err := stream.Copy(ctx, im.sum.reader(in), im.vol.Disk, opts)
	if err != nil && opts.Resume != nil {
		err = errors.Join(err, im.forget(err))
	}
	var spool *stream.NeedsSpoolError
	if errors.As(err, &spool) {
		return im.outOfOrder(ctx, in, spool)
	}
	if err != nil {
		return res, err
	}
	return res, im.sum.check()
}

// outOfOrder reads the image by random access if the source can do that, else from a copy.
func (im *importer) outOfOrder(ctx context.Context, in source.Stream, spool *stream.NeedsSpoolError) (stream.Result, error) {
	info := in.Info()
	// A checksum is of the whole file, which random access does not read.
	if im.in.object == nil || !info.Ranges || info.Identity == "" || im.sum != nil {
		return im.spool(ctx, in, spool)
	}
	at, err := source.NewReaderAt(ctx, im.in.object, info, im.w.Policy)
	if err != nil {
		return stream.Result{}, err
	}
	defer at.Close()
	head := make([]byte, image.HeadSize)
	n, err := at.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return stream.Result{}, err
	}
	if _, packed := image.Sniff(head[:n]); packed != image.None {
		return im.spool(ctx, in, spool)
	}
	in.Close()
	im.w.logf("%v: read from the source by random access instead", spool.Reason)
	return (&conversion{at: at, target: im.vol.Disk, block: im.vol.Block(), opts: im.opts, dir: im.w.Paths.Temp, cache: im.cache(), progress: im.progress.SetPercent}).run(ctx)
}

// cache is qemu-img's: the page cache counts for a container's memory, and the controller asks for less of it after the kernel ended one.
func (im *importer) cache() string {
	if im.w.Env(names.EnvCacheMode) == names.CacheModeTryNone {
		return "none"
	}
	return "writeback"
}

// spool stores the image first: on the scratch claim, or beside the disk when there is room for both.
func (im *importer) spool(ctx context.Context, in source.Stream, spool *stream.NeedsSpoolError) (stream.Result, error) {
	src, file := spool.Rest, im.vol.SpoolFile()
	size := in.Info().Size
	if !im.vol.CanSpool(size) {
		return stream.Result{}, &scratchError{bytes: max(size, im.opts.Available)}
	}
	if src == nil {
		// The image told too late what it is.
		in.Close()
		again, err := im.in.open(ctx, source.Start{Pin: in.Info()})
		if err != nil {
			return stream.Result{}, err
		}
		defer again.Close()
		src = im.sum.reader(again)
	}
	opts := im.opts
	opts.Size = size
	res, err := stream.Spool(ctx, src, file, im.vol.Disk, opts)
	if err == nil {
		err = im.sum.check()
	}
	if removed := os.Remove(file); err == nil && removed != nil {
		err = fmt.Errorf("remove the copy of the image: %w", removed)
	}
	var full *stream.NoSpaceError
	if errors.As(err, &full) && im.vol.Scratch == "" {
		return res, &scratchError{bytes: max(size, im.opts.Available)}
	}
	return res, err
}

// resume is where an earlier pod stopped.
func (im *importer) resume() (source.Start, stream.Options) {
	opts := im.opts
	e := im.vol.Journal().Load()
	// A checksum's state is not kept: it is of the whole stream.
	if e == nil || e.Source != im.in.name || e.Identity == "" || e.Spool || im.sum != nil {
		return source.Start{}, opts
	}
	size := e.Length
	if size == 0 {
		size = -1
	}
	im.w.logf("going on at byte %d", e.Checkpoint.Offset)
	opts.Resume = &e.Checkpoint
	return source.Start{Offset: e.Checkpoint.Offset, Pin: source.Info{Size: size, Identity: e.Identity, Ranges: true}}, opts
}

// checkpointer keeps progress for another pod, if the content can be told again.
func (im *importer) checkpointer(info source.Info, spool bool) stream.Checkpointer {
	if info.Identity == "" || im.sum != nil {
		return nil
	}
	journal := im.vol.Journal()
	return stream.CheckpointFunc(func(c stream.Checkpoint) error {
		return journal.Save(volume.Entry{Identity: info.Identity, Source: im.in.name, Length: max(0, info.Size), Spool: spool, Checkpoint: c})
	})
}

// forget lets the next try begin anew when going on failed for another reason than the source's.
func (im *importer) forget(err error) error {
	var (
		cut  *stream.SourceError
		full *stream.NoSpaceError
	)
	if errors.As(err, &cut) || errors.As(err, &full) {
		return nil
	}
	return im.vol.Journal().Remove()
}

func (im *importer) message(res stream.Result) names.TerminationMessage {
	text, applied, scratch := names.MessageImportComplete, res.Preallocated, false
	msg := names.TerminationMessage{
		Message: &text, PreallocationApplied: &applied, ScratchSpaceRequired: &scratch, Length: res.SourceBytes,
		Format: string(res.Format), VirtualSize: max(0, res.VirtualSize),
	}
	if len(res.Digest) > 0 {
		msg.Digest = "sha256:" + hex.EncodeToString(res.Digest)
	}
	if im.in != nil {
		msg.Labels = im.in.labels()
	}
	return msg
}
