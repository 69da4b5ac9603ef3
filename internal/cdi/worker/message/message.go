// Package message is what a worker pod leaves in its termination message: the only thing a controller learns from it at the end.
//
// Exit 0 carries JSON. With Fatal set the work failed in a way that no retry mends (CDI's way for a checksum mismatch, which it recognises by the
// text "checksum mismatch"): the pod must not be restarted, and Message says why. Exit 1 carries plain text, and the kubelet restarts
// the container.
package message

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"unicode/utf8"
)

// File is where the kubelet reads the message from.
const File = "/dev/termination-log"

// Limit is how much of it the kubelet keeps.
const Limit = 4096

// Texts that CDI's clients know.
const (
	ImportComplete = "Import Complete"
	UploadComplete = "Upload Complete"
	CloneComplete  = "Clone Complete"
	DeadlinePassed = "Deadline Passed"
	// FailurePrefix begins every failure's message.
	FailurePrefix = "Unable to process data: "
	// TooSmall replaces the detail of an image that does not fit its claim.
	TooSmall = "DataVolume too small to contain image"
)

// Reasons of a fatal failure, for a condition.
const (
	ReasonChecksum    = "ChecksumError"
	ReasonTooSmall    = "ImageTooLarge"
	ReasonSource      = "SourceUnusable"
	ReasonImage       = "ImageUnusable"
	ReasonUnsupported = "SourceUnsupported"
	ReasonRequest     = "RequestInvalid"
)

// VDDK is what a VMware import says about its server.
type VDDK struct {
	Version string
	Host    string
}

// Termination is the message. The first six fields are CDI's, the others are ours and ignored by others.
type Termination struct {
	ScratchSpaceRequired *bool             `json:"scratchSpaceRequired,omitempty"`
	PreallocationApplied *bool             `json:"preallocationApplied,omitempty"`
	DeadlinePassed       *bool             `json:"deadlinePassed,omitempty"`
	VDDK                 *VDDK             `json:"vddkInfo,omitempty"`
	Labels               map[string]string `json:"labels,omitempty"`
	Message              string            `json:"message,omitempty"`

	// Fatal: the work failed and will fail again.
	Fatal bool `json:"fatal,omitempty"`
	// Reason is one of the constants above when Fatal is set.
	Reason string `json:"reason,omitempty"`
	// Digest is "sha256:<hex>" of the whole source stream, as it came over the wire.
	Digest string `json:"digest,omitempty"`
	// ContentLength is how many bytes that stream had.
	ContentLength int64 `json:"contentLength,omitempty"`
	// Format is the image's format, with its compression: "qcow2", "raw.xz".
	Format string `json:"format,omitempty"`
	// VirtualSize is the size of the disk a guest sees, in bytes.
	VirtualSize int64 `json:"virtualSize,omitempty"`
}

// Encode writes the message, its longest parts cut so that it fits Limit.
func (t Termination) Encode() ([]byte, error) {
	for {
		raw, err := json.Marshal(t)
		if err != nil {
			return nil, fmt.Errorf("encode the termination message: %w", err)
		}
		if len(raw) <= Limit {
			return raw, nil
		}
		if len(t.Labels) > 0 {
			// Labels are worth less than the reason.
			t.Labels = nil
			continue
		}
		if t.Message == "" {
			return nil, fmt.Errorf("the termination message has %d bytes, more than the %d that the kubelet keeps", len(raw), Limit)
		}
		t.Message = cut(t.Message, len(t.Message)/2)
	}
}

// Write leaves the message for the kubelet.
func (t Termination) Write(file string) error {
	raw, err := t.Encode()
	if err != nil {
		return err
	}
	return WriteText(file, string(raw))
}

// WriteText leaves plain text, for an exit that is to be tried again.
func WriteText(file, text string) error {
	// The kubelet makes the file; it must not be replaced, as it is a mount.
	if err := os.WriteFile(file, []byte(cut(text, Limit)), 0o644); err != nil {
		return fmt.Errorf("write the termination message: %w", err)
	}
	return nil
}

// Parse reads a message; plain text becomes Message.
func Parse(text string) Termination {
	var t Termination
	if len(text) > Limit || !strings.HasPrefix(strings.TrimSpace(text), "{") || json.Unmarshal([]byte(text), &t) != nil {
		return Termination{Message: cut(text, Limit)}
	}
	return t
}

func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}
