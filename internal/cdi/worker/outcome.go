package worker

import (
	"context"
	"errors"
	"fmt"

	"virtctl/internal/cdi/image"
	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/source"
	"virtctl/internal/cdi/stream"
)

// scratchError asks the controller for a scratch claim.
type scratchError struct{ bytes int64 }

func (e *scratchError) Error() string { return names.MessageScratch }

// Outcome is how a worker ends: its exit code and what it leaves in the termination message.
//
// Exit 0 carries JSON: success, the wish for a scratch claim, or a failure that no retry mends (fatal), which must not be restarted by the
// kubelet. Exit 1 carries text, and the kubelet starts the container again, which goes on where it was.
func Outcome(msg names.TerminationMessage, err error) (code int, message []byte) {
	var scratch *scratchError
	switch {
	case err == nil:
	case errors.As(err, &scratch):
		yes, text := true, scratch.Error()
		msg = names.TerminationMessage{ScratchSpaceRequired: &yes, ScratchBytes: scratch.bytes, Message: &text}
	default:
		text := names.MessageErrorPrefix + err.Error()
		reason, fatal := fatalReason(err)
		if !fatal {
			return 1, []byte(text[:min(len(text), names.MaxTermination)])
		}
		msg = names.TerminationMessage{Fatal: true, Reason: reason, Message: &text}
	}
	raw, err := msg.Encode()
	if err != nil {
		return 1, []byte(fmt.Sprintf("%s%v", names.MessageErrorPrefix, err))
	}
	return 0, raw
}

// Reasons of a DataVolume's condition, beside those of package source.
const (
	reasonTooSmall = "DataVolumeTooSmall"
	reasonRefused  = "ImageRefused"
	reasonCorrupt  = "ImageDamaged"
	reasonInvalid  = "RequestInvalid"
)

// fatalReason tells what no retry mends.
func fatalReason(err error) (string, bool) {
	var (
		large    *stream.TooLargeError
		refused  *image.RefusedError
		damaged  *image.CorruptError
		unpacked *image.CompressionError
		member   *stream.EntryError
		givenUp  *source.GivenUpError
	)
	if f, ok := source.Fatal(err); ok {
		return f.Reason, true
	}
	if errors.As(err, &givenUp) || errors.Is(err, source.ErrChanged) || errors.Is(err, context.Canceled) {
		// Unpacking fails, too, when what it reads from does.
		return "", false
	}
	switch {
	case errors.As(err, &large):
		return reasonTooSmall, true
	case errors.As(err, &refused), errors.As(err, &member):
		return reasonRefused, true
	case errors.As(err, &damaged), errors.As(err, &unpacked):
		return reasonCorrupt, true
	}
	return "", false
}
