package names

import (
	"encoding/json"
	"fmt"
)

// MaxTermination is how much kubelet keeps of a termination message.
const MaxTermination = 4096

// Texts of termination messages.
const (
	MessageImportComplete = "Import Complete"
	MessageUploadComplete = "Upload Complete"
	MessageCloneComplete  = "Clone Complete"
	// MessageErrorPrefix begins the message of a worker that failed.
	MessageErrorPrefix = "Unable to process data: "
	// MessageTooSmall is what a user reads when the image does not fit.
	MessageTooSmall = "DataVolume too small to contain image"
	MessageScratch  = "scratch space required and none found"
)

// TerminationMessage is what a worker writes to Termination at its end. The upper fields are the contract's, the lower our own.
type TerminationMessage struct {
	ScratchSpaceRequired *bool             `json:"scratchSpaceRequired,omitempty"`
	PreallocationApplied *bool             `json:"preallocationApplied,omitempty"`
	DeadlinePassed       *bool             `json:"deadlinePassed,omitempty"`
	VddkInfo             *VddkInfo         `json:"vddkInfo,omitempty"`
	Labels               map[string]string `json:"labels,omitempty"`
	Message              *string           `json:"message,omitempty"`

	// Fatal tells that trying again with the same source and claim cannot help (wrong checksum, refused image).
	Fatal bool `json:"fatal,omitempty"`
	// Reason is one CamelCase word for the condition Running, empty for "Error" or "Completed".
	Reason string `json:"reason,omitempty"`
	// Digest is sha256:HEX of the whole source stream, Length its bytes.
	Digest string `json:"digest,omitempty"`
	Length int64  `json:"length,omitempty"`
	// Format is the source's disk format, VirtualSize the disk's bytes.
	Format      string `json:"format,omitempty"`
	VirtualSize int64  `json:"virtualSize,omitempty"`
	// ScratchBytes is how much scratch space is enough, when ScratchSpaceRequired.
	ScratchBytes int64 `json:"scratchBytes,omitempty"`
}

// VddkInfo is what a VMware source told about itself.
type VddkInfo struct {
	Version string
	Host    string
}

// ParseTermination reads a termination message. Text that is not JSON is a message: kubelet puts the end of a crashed
// worker's log there.
func ParseTermination(text string) TerminationMessage {
	var m TerminationMessage
	if len(text) > MaxTermination {
		text = text[:MaxTermination]
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return TerminationMessage{Message: &text}
	}
	return m
}

// Encode gives the message as JSON, its text cut so that kubelet keeps all of it.
func (m TerminationMessage) Encode() ([]byte, error) {
	for limit := MaxTermination / 2; ; limit /= 2 {
		text, err := json.Marshal(m)
		if err != nil {
			return nil, fmt.Errorf("encode the termination message: %w", err)
		}
		if len(text) <= MaxTermination {
			return text, nil
		}
		if limit == 0 {
			m.Labels = nil
		}
		if m.Message != nil && len(*m.Message) > limit {
			cut := (*m.Message)[:limit]
			m.Message = &cut
		} else if limit == 0 {
			return nil, fmt.Errorf("the termination message has %d bytes, more than %d", len(text), MaxTermination)
		}
	}
}

// Text is the message's text, or nothing.
func (m TerminationMessage) Text() string {
	if m.Message == nil {
		return ""
	}
	return *m.Message
}
