// Package store keeps volumes and snapshots in a directory: each is a directory of its own with what is known of it and its content, a tree
// of files or a disk of one file. Copies share their blocks with the original where the file system can do that.
package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Record is what is known of a volume or a snapshot.
type Record struct {
	ID, Name string
	Size     int64
	// Block tells that the content is one file, a disk.
	Block bool
	// From is the ID of what it was made from, or empty.
	From    string
	Created time.Time
}

// ErrNotFound, ErrExists and ErrSmall say what is wrong with a wish.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("exists and is another one")
	ErrSmall    = errors.New("smaller than what it shall be made from")
)

// Kind is the directory of one kind of records.
type Kind string

// The kinds.
const (
	Volumes   Kind = "volumes"
	Snapshots Kind = "snapshots"
)

// recordFile and contentName are what a record's directory holds.
const (
	recordFile  = "record.json"
	contentName = "content"
)

// Store is the directory. One caller works at a time.
type Store struct {
	dir string
	mu  sync.Mutex
}

// Open makes the directory ready and removes what was never finished.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir}
	if err := os.RemoveAll(s.unfinished()); err != nil {
		return nil, fmt.Errorf("remove what was not finished: %w", err)
	}
	for _, kind := range []Kind{Volumes, Snapshots} {
		if err := os.MkdirAll(filepath.Join(dir, string(kind)), 0o700); err != nil {
			return nil, fmt.Errorf("make the store: %w", err)
		}
	}
	return s, nil
}

func (s *Store) unfinished() string { return filepath.Join(s.dir, "unfinished") }

// ID is what a name is known by: names may be long and hold anything.
func ID(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:16])
}

// Content is the path of what a volume or a snapshot holds.
func (s *Store) Content(kind Kind, id string) string {
	return filepath.Join(s.path(kind, id), contentName)
}

func (s *Store) path(kind Kind, id string) string {
	return filepath.Join(s.dir, string(kind), filepath.Base(filepath.Clean("/"+id)))
}

// Get reads a record.
func (s *Store) Get(kind Kind, id string) (Record, error) {
	data, err := os.ReadFile(filepath.Join(s.path(kind, id), recordFile))
	if errors.Is(err, fs.ErrNotExist) || id != filepath.Base(filepath.Clean("/"+id)) {
		return Record{}, fmt.Errorf("%s %q: %w", strings.TrimSuffix(string(kind), "s"), id, ErrNotFound)
	}
	if err != nil {
		return Record{}, err
	}
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return Record{}, fmt.Errorf("read the record of %s: %w", id, err)
	}
	return r, nil
}

// List gives all records of a kind, the oldest names first.
func (s *Store) List(kind Kind) ([]Record, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, string(kind)))
	if err != nil {
		return nil, err
	}
	var out []Record
	for _, e := range entries {
		r, err := s.Get(kind, e.Name())
		if errors.Is(err, ErrNotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Record) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// Origin is what a record is made from: nothing, a volume or a snapshot.
type Origin struct {
	Kind Kind
	ID   string
}

// Make makes a record with its content, or gives the one that was made before of the same wish.
func (s *Store) Make(ctx context.Context, kind Kind, want Record, from Origin) (Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	want.ID, want.From = ID(want.Name), from.ID
	have, err := s.Get(kind, want.ID)
	if err == nil {
		if have.From != want.From || have.Size < want.Size || have.Block != want.Block {
			return have, fmt.Errorf("%q %w", want.Name, ErrExists)
		}
		return have, nil
	}
	if !errors.Is(err, ErrNotFound) {
		return Record{}, err
	}
	if err := os.RemoveAll(s.unfinished()); err != nil {
		return Record{}, err
	}
	if err := os.Mkdir(s.unfinished(), 0o700); err != nil {
		return Record{}, err
	}
	if err := s.fill(ctx, filepath.Join(s.unfinished(), contentName), want, from); err != nil {
		return Record{}, err
	}
	if err := write(filepath.Join(s.unfinished(), recordFile), want); err != nil {
		return Record{}, err
	}
	return want, os.Rename(s.unfinished(), s.path(kind, want.ID))
}

func (s *Store) fill(ctx context.Context, path string, want Record, from Origin) error {
	if from.ID != "" {
		origin, err := s.Get(from.Kind, from.ID)
		if err != nil {
			return err
		}
		if want.Size < origin.Size {
			return fmt.Errorf("%d bytes are wished for, %d needed: %w", want.Size, origin.Size, ErrSmall)
		}
		if err := copyTree(ctx, s.Content(from.Kind, from.ID), path); err != nil {
			return fmt.Errorf("copy %s: %w", from.ID, err)
		}
	} else if !want.Block {
		if err := os.Mkdir(path, 0o777); err != nil {
			return err
		}
		// Whoever mounts it may write, whatever the umask.
		return os.Chmod(path, 0o777) //nolint:gosec
	}
	if !want.Block {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(want.Size), f.Close())
}

func write(path string, r Record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// Grow makes a volume larger; it never shrinks.
func (s *Store) Grow(id string, size int64) (Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.Get(Volumes, id)
	if err != nil || r.Size >= size {
		return r, err
	}
	if r.Block {
		if err := os.Truncate(s.Content(Volumes, id), size); err != nil {
			return r, err
		}
	}
	r.Size = size
	next := filepath.Join(s.path(Volumes, id), recordFile+".new")
	if err := write(next, r); err != nil {
		return r, err
	}
	return r, os.Rename(next, filepath.Join(s.path(Volumes, id), recordFile))
}

// Remove removes a record and its content. One that is not there is as good as removed.
func (s *Store) Remove(kind Kind, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.Get(kind, id); err != nil {
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	}
	return os.RemoveAll(s.path(kind, id))
}
