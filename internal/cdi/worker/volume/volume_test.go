package volume

import (
	"os"
	"path/filepath"
	"testing"

	"virtctl/internal/cdi/stream"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "1Gi": 1 << 30, "1073741824": 1 << 30, "1.5Gi": 3 << 29, "500M": 500_000_000, "1e9": 1_000_000_000} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"-1", "many", "1 Gi", "1GiB"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
}

func TestJournal(t *testing.T) {
	dir := t.TempDir()
	j := Volume{StateDir: dir}.Journal()
	if j.Load() != nil {
		t.Fatal("an entry out of nothing")
	}
	want := Entry{Identity: "a", Source: "upload", Length: 10, Checkpoint: stream.Checkpoint{Offset: 5}}
	if err := j.Save(want); err != nil {
		t.Fatal(err)
	}
	if got := j.Load(); got == nil || got.Checkpoint.Offset != 5 || got.Identity != "a" {
		t.Fatalf("%+v", got)
	}
	for _, bad := range []string{"", "{", `{"checkpoint":{"offset":-5}}`, `{"length":3,"checkpoint":{"offset":5}}`} {
		if err := os.WriteFile(j.path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := j.Load(); got != nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
	if err := j.Remove(); err != nil {
		t.Fatal(err)
	}
	// What another user of the claim put there is not followed.
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), j.path); err != nil {
		t.Fatal(err)
	}
	if j.Load() != nil {
		t.Error("a link was followed")
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	p := Paths{Data: filepath.Join(dir, "data"), Device: filepath.Join(dir, "device"), Scratch: filepath.Join(dir, "scratch"), Temp: dir}
	if _, err := p.Find(); err == nil {
		t.Error("a claim out of nothing")
	}
	if err := os.Mkdir(p.Data, 0o755); err != nil {
		t.Fatal(err)
	}
	v, err := p.Find()
	if err != nil || v.Block() || v.Scratch != "" || v.CanSpool(1<<60) {
		t.Errorf("%+v, %v", v, err)
	}
	s, err := v.Sizes("1Mi", 0.06)
	if err != nil || s.Available != 1<<20 || s.GrowTo != 1<<20 {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err = v.Sizes("", 0.06); err != nil || s.GrowTo != 0 || s.Available%mib != 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

// A claim that was made for a disk, by CDI's formula for the overhead, takes an image of that size whatever the file system needs for itself.
func TestSizesOfAFilesystem(t *testing.T) {
	const gib = 1 << 30
	const inflated = gib * 106 / 100 / 4096 * 4096
	for name, c := range map[string]struct {
		room, wanted    int64
		available, grow int64
	}{
		"half a GiB, ext4":                       {567205888, 569083167, 537 * mib, 512 * mib},
		"1 GiB, ext4 with its smallest overhead": {1100 * mib, gib * 106 / 100, inflated, 1037 * mib},
		"a claim of 1 GiB that has less":         {1000 * mib, gib, 995 * mib, 966 * mib},
		"a directory of a large disk":            {100 * gib, gib, gib, gib},
		"the same, overhead included":            {100 * gib, gib * 106 / 100, inflated, inflated},
		"hardly anything":                        {mib, gib, 0, 0},
	} {
		if s := sizes(c.room, c.wanted, 0.06); s.Available != c.available || s.GrowTo != c.grow {
			t.Errorf("%s: %d MiB, grows to %d MiB; want %d and %d", name, s.Available/mib, s.GrowTo/mib, c.available/mib, c.grow/mib)
		}
	}
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"identity":"x","checkpoint":{"offset":1}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		j := Volume{StateDir: t.TempDir()}.Journal()
		if err := os.WriteFile(j.path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if e := j.Load(); e != nil && e.Checkpoint.Offset <= 0 {
			t.Fatalf("%+v", e)
		}
	})
}
