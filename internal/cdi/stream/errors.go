package stream

import (
	"errors"
	"fmt"
	"io"
	"syscall"

	"virtctl/internal/cdi/image"
)

// NeedsSpoolError says that the image cannot be decoded in order: it must be stored whole first.
type NeedsSpoolError struct {
	Format image.Format
	Reason string
	// Rest is the whole source again, nothing lost, to be given to Spool. It is nil when the need was found so late that
	// the source must be read from its beginning once more.
	Rest io.Reader
}

func (e *NeedsSpoolError) Error() string {
	return fmt.Sprintf("this %s image cannot be written as it arrives (%s); it needs scratch space, or rewrite it first with: qemu-img convert -O qcow2 IN OUT", e.Format, e.Reason)
}

// TooLargeError is a disk larger than its target. The text is the contract's.
type TooLargeError struct {
	VirtualSize, Available int64
	// AtLeast says that more of the disk was still to come.
	AtLeast bool
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("virtual image size %d is larger than the reported available storage %d. A larger PVC is required", e.VirtualSize, e.Available)
}

// NoSpaceError is a target that is full before its disk is complete. What was written stays, so that the work can go on.
type NoSpaceError struct {
	Target string
	Err    error
}

func (e *NoSpaceError) Error() string {
	return fmt.Sprintf("no space left on %s; free some space or use a larger PVC, and send it again: it goes on where it stopped", e.Target)
}

func (e *NoSpaceError) Unwrap() error { return e.Err }

// SourceError is a source that failed or ended too early. The target and its checkpoint can be resumed.
type SourceError struct {
	// Offset is how many bytes of the source arrived.
	Offset int64
	Err    error
}

func (e *SourceError) Error() string {
	if errors.Is(e.Err, io.ErrUnexpectedEOF) {
		return fmt.Sprintf("the source ended too early, after %d bytes; send it again: it goes on where it stopped", e.Offset)
	}
	return fmt.Sprintf("read the source after %d bytes: %v; try again: it goes on where it stopped", e.Offset, e.Err)
}

func (e *SourceError) Unwrap() error { return e.Err }

// targetError names the target and recognises a full one.
func targetError(target, doing string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &NoSpaceError{Target: target, Err: err}
	}
	return fmt.Errorf("%s %s: %w", doing, target, err)
}
