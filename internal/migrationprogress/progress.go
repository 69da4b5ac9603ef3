// Package migrationprogress is how the node a guest leaves tells how far it has come. The public API has no field for that: it stands in
// an annotation of the VirtualMachineInstance, written rarely, and at the end of the migration in one of the migration itself.
package migrationprogress

import (
	"encoding/json"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Annotation holds a Progress as JSON.
const Annotation = "virtctl.io/migration-progress"

// maxLength bounds what is parsed.
const maxLength = 4096

// Progress is how far a guest has come.
type Progress struct {
	// Migration is the UID of the migration it is about.
	Migration types.UID `json:"migration"`
	// Phase is setup, precopy, postcopy or done.
	Phase string    `json:"phase"`
	At    time.Time `json:"at"`

	ElapsedMillis     uint64 `json:"elapsedMillis"`
	TotalBytes        uint64 `json:"totalBytes"`
	ProcessedBytes    uint64 `json:"processedBytes"`
	RemainingBytes    uint64 `json:"remainingBytes"`
	DirtyRateBytes    uint64 `json:"dirtyRateBytes"`
	TransferRateBytes uint64 `json:"transferRateBytes"`
	// DowntimeMillis is how long the guest stood still; known at the end.
	DowntimeMillis uint64 `json:"downtimeMillis,omitempty"`
	// ThrottlePercent is the part of its time for which the guest's processors are held back, so that its memory can be caught up with.
	ThrottlePercent int `json:"throttlePercent,omitempty"`
}

// Of reads the progress of a migration from an object's annotations; nil if they tell nothing of it.
func Of(annotations map[string]string, migration types.UID) *Progress {
	raw := annotations[Annotation]
	if raw == "" || len(raw) > maxLength {
		return nil
	}
	p := &Progress{}
	if json.Unmarshal([]byte(raw), p) != nil || p.Migration != migration {
		return nil
	}
	return p
}

// Left estimates how long the transfer will take at its present speed; ok is false when it would not end.
func (p *Progress) Left() (left time.Duration, ok bool) {
	if p.TransferRateBytes <= p.DirtyRateBytes {
		return 0, false
	}
	seconds := float64(p.RemainingBytes) / float64(p.TransferRateBytes-p.DirtyRateBytes)
	const longest = 1 << 20
	return time.Duration(min(seconds, longest) * float64(time.Second)), true
}
