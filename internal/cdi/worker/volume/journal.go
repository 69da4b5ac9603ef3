package volume

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/stream"
)

// maxJournal bounds what is read back. A decoder's state is in it.
const maxJournal = 64 << 20

// Entry says how far a work got: enough for another pod to go on.
type Entry struct {
	// Identity tells the content: an upload's fingerprint, or a source's ETag. An Entry without one is of no use to anybody else.
	Identity string `json:"identity"`
	// Source tells where it comes from: "upload", or the import's URL.
	Source string `json:"source"`
	// Length of the whole source stream, 0 when it is not known.
	Length int64 `json:"length,omitempty"`
	// Spool says that the checkpoint is of the spool file, not of the disk.
	Spool bool `json:"spool,omitempty"`
	// Checkpoint is where to go on.
	Checkpoint stream.Checkpoint `json:"checkpoint"`
}

// Journal is a file that keeps one Entry.
type Journal struct{ path string }

// Journal is the volume's.
func (v Volume) Journal() Journal { return Journal{path: filepath.Join(v.StateDir, names.JournalFile)} }

// Load reads the entry; nil when there is none that can be used. A journal in a claim may have been written by anybody who could mount it:
// it is bounded, and what is wrong in it means to begin again.
func (j Journal) Load() *Entry {
	st, err := os.Lstat(j.path)
	if err != nil || !st.Mode().IsRegular() || st.Size() > maxJournal {
		return nil
	}
	raw, err := os.ReadFile(j.path)
	if err != nil {
		return nil
	}
	e := &Entry{}
	if json.Unmarshal(raw, e) != nil || e.Checkpoint.Offset <= 0 || (e.Length > 0 && e.Checkpoint.Offset > e.Length) {
		return nil
	}
	return e
}

// Save replaces the entry as a whole.
func (j Journal) Save(e Entry) error {
	raw, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode the journal: %w", err)
	}
	tmp := j.path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o660)
	if err == nil {
		_, err = f.Write(raw)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err == nil {
		err = os.Rename(tmp, j.path)
	}
	if err != nil {
		return fmt.Errorf("keep how far the work got: %w", err)
	}
	return nil
}

// Remove forgets the entry.
func (j Journal) Remove() error {
	var errs []error
	for _, file := range []string{j.path, j.path + ".new"} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
