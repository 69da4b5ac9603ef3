// Package source reads disk images from where they are: what every kind of source has in common.
//
// A source is an Object: bytes that can be opened at any offset as long as they do not change. Reader turns it into one stream that
// survives cut connections; ReaderAt gives random access for image formats that cannot be decoded in order.
package source

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Object is a remote file.
type Object interface {
	// Open starts to read a part. If pin has an identity and the source serves another content now, it fails with ErrChanged.
	Open(ctx context.Context, part Part, pin Info) (io.ReadCloser, Info, error)
}

// Part is from which byte to read, and up to which; End 0 is the object's.
type Part struct{ Offset, End int64 }

// Info is what a source says about the object that was opened.
type Info struct {
	// Size in bytes, -1 when the source does not say.
	Size int64
	// Identity tells this content from any other that the source may serve under the same name (an ETag, a digest). Empty when the
	// source does not say: such an object cannot be continued.
	Identity string
	// Ranges says that the object can be opened at an offset without reading what is before it.
	Ranges bool
}

// ErrChanged says that the object was replaced while it was read: what was read so far must be thrown away.
var ErrChanged = errors.New("the file changed at its source while it was read")

// unpinnedError is a connection that broke at a server that names no version of the file.
type unpinnedError struct{ err error }

func (e *unpinnedError) Error() string {
	return e.err.Error() + ", and the server says nothing (ETag, Last-Modified) by which to continue"
}
func (e *unpinnedError) Unwrap() error        { return e.err }
func (e *unpinnedError) Is(target error) bool { return target == ErrChanged }

// Reasons of fatal errors, for the condition of a DataVolume.
const (
	ReasonUnusable    = "SourceUnusable"
	ReasonUnsupported = "SourceUnsupported"
	ReasonDenied      = "SourceDenied"
	ReasonChecksum    = "ChecksumError"
)

// FatalError is a failure that no retry mends: the user has to change something.
type FatalError struct {
	// Reason is one word for a condition.
	Reason string
	Err    error
}

func (e *FatalError) Error() string { return e.Err.Error() }
func (e *FatalError) Unwrap() error { return e.Err }

// Fatalf makes a FatalError. Its text must say what to do.
func Fatalf(reason, format string, args ...any) error {
	return &FatalError{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// Fatal returns the FatalError in err, if there is one.
func Fatal(err error) (*FatalError, bool) {
	var f *FatalError
	ok := errors.As(err, &f)
	return f, ok
}

// Stream is an object that is being read.
type Stream interface {
	io.ReadCloser
	// Info is what the source said about the object.
	Info() Info
}
