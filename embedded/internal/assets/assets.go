// Package assets carries the small programs that run beside pods. They are built into files/ by build.mk.
package assets

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

//go:embed all:files
var files embed.FS

// Programs are the names of the carried programs that a node needs as files.
func Programs() []string {
	return []string{"containerd-shim-runc-v2", "bridge", "host-local", "portmap"}
}

// Pause is the program of the sandbox image.
func Pause() ([]byte, error) { return read("pause") }

func read(name string) ([]byte, error) {
	data, err := files.ReadFile("files/" + name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("this virt-kube was built without %s: build it with 'make virt-kube'", name)
	}
	return data, err
}

// Extract writes the programs to dir. A file is replaced in one step, because the old one may be running.
func Extract(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("unpack programs: %w", err)
	}
	for _, name := range Programs() {
		data, err := read(name)
		if err != nil {
			return err
		}
		path := filepath.Join(dir, name)
		if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, data) {
			continue
		}
		if err := os.WriteFile(path+".new", data, 0o755); err != nil {
			return fmt.Errorf("unpack programs: %w", err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			return fmt.Errorf("unpack programs: %w", err)
		}
	}
	return nil
}
