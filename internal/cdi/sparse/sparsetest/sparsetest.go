// Package sparsetest makes what a client sends of a raw disk, for tests of whoever receives it.
package sparsetest

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"virtctl/internal/cdi/sparse"
)

// Packed is a raw disk as it is sent. The disk must have zeros enough.
func Packed(t *testing.T, disk []byte) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	image, err := sparse.Of(context.Background(), f, int64(len(disk)))
	if err != nil || image == nil {
		t.Fatalf("%v, %v", image, err)
	}
	packed, err := io.ReadAll(io.NewSectionReader(image, 0, image.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return packed
}
