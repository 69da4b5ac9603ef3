package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A copy has the content, the modes and the holes of its original, and is a thing of its own.
func TestCopies(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.Make(t.Context(), Volumes, Record{Name: "first", Size: 1 << 20}, Origin{})
	if err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(s.Content(Volumes, first.ID), "disk.img")
	writeSparse(t, disk)
	taken, err := s.Make(t.Context(), Snapshots, Record{Name: "now", Size: 1 << 20}, Origin{Volumes, first.ID})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(disk, []byte("changed"), 0o640); err != nil {
		t.Fatal(err)
	}
	second, err := s.Make(t.Context(), Volumes, Record{Name: "second", Size: 2 << 20}, Origin{Snapshots, taken.ID})
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(s.Content(Volumes, second.ID), "disk.img")
	data, err := os.ReadFile(copied)
	if err != nil || len(data) != 8<<20 || !bytes.HasPrefix(data[4<<20:], []byte("data")) {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	info, err := os.Stat(copied)
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); st.Blocks*512 > 1<<20 || info.Mode() != 0o640 {
		t.Errorf("mode %v, %d KiB on disk", info.Mode(), st.Blocks/2)
	}
}

func writeSparse(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(8 << 20); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("data"), 4<<20); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// The same wish twice is one volume; another wish of the same name is refused.
func TestWishes(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.Make(t.Context(), Volumes, Record{Name: "a", Size: 2 << 20, Block: true}, Origin{})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.Make(t.Context(), Volumes, Record{Name: "a", Size: 2 << 20, Block: true}, Origin{}); err != nil || again != first {
		t.Errorf("%+v, %v", again, err)
	}
	for name, wish := range map[string]struct {
		record Record
		from   Origin
		want   error
	}{
		"larger":       {Record{Name: "a", Size: 3 << 20, Block: true}, Origin{}, ErrExists},
		"other kind":   {Record{Name: "a", Size: 2 << 20}, Origin{}, ErrExists},
		"from another": {Record{Name: "a", Size: 2 << 20, Block: true}, Origin{Volumes, first.ID}, ErrExists},
		"too small":    {Record{Name: "b", Size: 1 << 20, Block: true}, Origin{Volumes, first.ID}, ErrSmall},
		"from nothing": {Record{Name: "c", Size: 1 << 20}, Origin{Snapshots, "gone"}, ErrNotFound},
		"from outside": {Record{Name: "d", Size: 1 << 20}, Origin{Volumes, "../" + string(Volumes)}, ErrNotFound},
	} {
		if _, err := s.Make(t.Context(), Volumes, wish.record, wish.from); !errors.Is(err, wish.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if grown, err := s.Grow(first.ID, 5<<20); err != nil || grown.Size != 5<<20 {
		t.Errorf("%+v, %v", grown, err)
	}
	if info, err := os.Stat(s.Content(Volumes, first.ID)); err != nil || info.Size() != 5<<20 {
		t.Errorf("%v, %v", info, err)
	}
	for range 2 {
		if err := s.Remove(Volumes, first.ID); err != nil {
			t.Error(err)
		}
	}
}
