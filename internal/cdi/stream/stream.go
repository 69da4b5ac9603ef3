// Package stream turns the bytes of a disk image, read once and in order, into a sparse raw disk: a file or a block device.
//
// No scratch space is used for what can be decoded in order. Memory is bounded whatever the image is: buffers come from fixed
// pools, and metadata of an image that would need more is refused. Progress is kept in checkpoints, from which another process
// goes on with the same source at the checkpoint's offset.
package stream

import (
	"context"
	"io"
	"time"

	"virtctl/internal/cdi/image"
)

// DefaultCheckpointBytes and DefaultCheckpointInterval are how far apart checkpoints are, whichever is later.
const (
	DefaultCheckpointBytes    = 16 << 20
	DefaultCheckpointInterval = time.Second
)

// MemoryLimit is what a process that copies should give to debug.SetMemoryLimit, so that garbage does not add to the buffers.
const MemoryLimit = 72 << 20

// Options say how a source becomes a disk. The zero value works.
type Options struct {
	// Size is the whole source's length in bytes, 0 or less when unknown. A source that ends elsewhere is an error.
	Size int64
	// Available is the largest virtual size the target may get, in bytes (the contract's "reported available storage").
	// 0 asks the target: a device's size, or what the filesystem has free.
	Available int64
	// GrowTo makes the disk of a regular file at least this large; the added part is a hole.
	GrowTo int64
	// Preallocation reserves all space, by fallocate or else by writing zeros.
	Preallocation bool
	// Content is how the contract's header x-cdi-content-type calls the stream; empty is a disk image.
	Content Content
	// Format is what the disk image is; empty recognises it.
	Format image.Format
	// SpillDir is where parts of a qcow2 image that come before their mapping may be put when they outgrow memory.
	// Empty is the target's directory for a regular file, and nowhere for a device.
	SpillDir string

	// Checkpointer keeps progress; nil keeps none.
	Checkpointer Checkpointer
	// CheckpointBytes and CheckpointInterval override the defaults.
	CheckpointBytes    int64
	CheckpointInterval time.Duration
	// Resume goes on from a checkpoint: the source given begins at Resume.Offset.
	Resume *Checkpoint

	// Progress is called now and then, from one goroutine, with the source's bytes read so far and Size.
	Progress func(done, total int64)
}

// Content says what kind of stream comes.
type Content string

// The kinds of streams. A FilesystemClone and an Archive are for Extract, the others for Copy.
const (
	DiskImage       Content = ""
	BlockClone      Content = "blockdevice-clone"
	SparseClone     Content = "virtctl-sparse" // of CopyOut
	FilesystemClone Content = "filesystem-clone"
	Archive         Content = "archive"
)

// Result is what a disk was made of.
type Result struct {
	// SourceBytes and Digest (SHA-256, 32 bytes) are of the whole source stream as it came.
	SourceBytes int64
	Digest      []byte
	Format      image.Format
	Compression image.Compression
	// VirtualSize is the disk's size in bytes before GrowTo.
	VirtualSize int64
	// Written counts the bytes of data written to the target, zeros not among them.
	Written int64
	// Preallocated tells that all space is reserved.
	Preallocated bool
}

// Copy reads src to its end and writes the disk in it to target, the path of a block device or of a regular file, which is
// made if it is not there. What was in the target is gone, unless opts.Resume says otherwise; an image that is refused or too
// large by its header leaves it untouched. The target is synced at the end. After an error a last Read of src may still be
// under way: close src, unless the error hands over its Rest.
//
// Errors to tell apart with errors.As: *NeedsSpoolError (use Spool with its Rest), *TooLargeError, *NoSpaceError,
// *SourceError (the source failed or ended early: resume), *image.RefusedError, *image.CorruptError, *image.CompressionError.
func Copy(ctx context.Context, src io.Reader, target string, opts Options) (Result, error) {
	return copyTo(ctx, src, target, opts.withDefaults())
}

func (o Options) withDefaults() Options {
	if o.CheckpointBytes <= 0 {
		o.CheckpointBytes = DefaultCheckpointBytes
	}
	if o.CheckpointInterval <= 0 {
		o.CheckpointInterval = DefaultCheckpointInterval
	}
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
	if o.Size <= 0 {
		o.Size = image.Unknown
	}
	return o
}
