package stream

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"virtctl/internal/cdi/image"
)

// Checkpoint is everything that another process needs to go on: the target holds all data of the source's first Offset bytes.
type Checkpoint struct {
	// Offset is where in the source to go on.
	Offset int64 `json:"offset"`
	// Hash is SHA-256's state after Offset bytes.
	Hash []byte `json:"hash"`
	// Format says which decoder State belongs to.
	Format image.Format `json:"format"`
	// VirtualSize of the disk, -1 when it is not known yet.
	VirtualSize int64 `json:"virtualSize"`
	// Written counts the data bytes written so far.
	Written int64 `json:"written"`
	// State is the decoder's own.
	State []byte `json:"state,omitempty"`
}

// Spooling tells that the checkpoint is of Spool, which has to go on from it.
func (c *Checkpoint) Spooling() bool { return c.Format == spooled }

// Checkpointer keeps the latest checkpoint. Save is called after the target was synced, never twice at once.
type Checkpointer interface {
	Save(Checkpoint) error
}

// CheckpointFunc makes a function a Checkpointer.
type CheckpointFunc func(Checkpoint) error

// Save calls the function.
func (f CheckpointFunc) Save(c Checkpoint) error { return f(c) }

// maxCheckpoint bounds what is read back; the decoders' states are bounded well below.
const maxCheckpoint = 64 << 20

// FileCheckpointer keeps the latest checkpoint in one file, replaced as a whole.
type FileCheckpointer struct{ Path string }

// Save writes the checkpoint beside the file and renames it, so that a crash leaves the old one or the new one.
func (f FileCheckpointer) Save(c Checkpoint) error {
	b, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode the checkpoint: %w", err)
	}
	tmp := f.Path + ".new"
	w, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return targetError(f.Path, "write the checkpoint", err)
	}
	_, err = w.Write(b)
	err = errors.Join(err, w.Sync(), w.Close())
	if err == nil {
		err = os.Rename(tmp, f.Path)
	}
	if err != nil {
		return targetError(f.Path, "write the checkpoint", err)
	}
	return nil
}

// Load reads the checkpoint back; nil when there is none.
func (f FileCheckpointer) Load() (*Checkpoint, error) {
	st, err := os.Stat(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the checkpoint: %w", err)
	}
	if st.Size() > maxCheckpoint {
		return nil, fmt.Errorf("the checkpoint %s has %d bytes, which cannot be; remove it and start again", filepath.Base(f.Path), st.Size())
	}
	b, err := os.ReadFile(f.Path)
	if err != nil {
		return nil, fmt.Errorf("read the checkpoint: %w", err)
	}
	c := &Checkpoint{}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("read the checkpoint: %w", err)
	}
	return c, nil
}

// Remove forgets the checkpoint.
func (f FileCheckpointer) Remove() error {
	err := os.Remove(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
