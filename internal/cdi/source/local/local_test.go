package local

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"virtctl/internal/cdi/source"
)

func TestFind(t *testing.T) {
	cases := map[string]struct {
		make func(dir string)
		good bool
	}{
		"one file": {func(d string) { _ = os.WriteFile(filepath.Join(d, "disk.qcow2"), []byte("0123456789"), 0o600) }, true},
		"none":     {func(string) {}, false},
		"two": {func(d string) {
			_ = os.WriteFile(filepath.Join(d, "a"), nil, 0o600)
			_ = os.WriteFile(filepath.Join(d, "b"), nil, 0o600)
		}, false},
		"link":      {func(d string) { _ = os.Symlink("/etc/passwd", filepath.Join(d, "a")) }, false},
		"no folder": {func(d string) { os.Remove(d) }, false},
		"folder is a link": {func(d string) {
			os.Remove(d)
			_ = os.Symlink("/etc", d)
		}, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			dir := filepath.Join(root, "disk")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			c.make(dir)
			d, err := Find(root)
			if _, fatal := source.Fatal(err); fatal == c.good {
				t.Fatalf("%v, %v", d, err)
			}
			if !c.good {
				return
			}
			f, info, err := d.Open(context.Background(), source.Part{Offset: 4}, source.Info{})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if raw, _ := io.ReadAll(f); string(raw) != "456789" || info.Size != 10 {
				t.Fatalf("%s, %+v", raw, info)
			}
			if _, _, err := d.Open(context.Background(), source.Part{}, source.Info{Identity: "other"}); !errors.Is(err, source.ErrChanged) {
				t.Fatal(err)
			}
		})
	}
}
