package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"virtctl/internal/images"
)

// buildCSI packs the storage that tests of clones stand on: a CSI driver, and the programs of Kubernetes that stand between it and claims.
// See test/csi. It is no part of the platform.
func buildCSI(_ context.Context, b *builder) (images.Built, error) {
	dir := filepath.Join(b.bin, "csi")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return images.Built{}, fmt.Errorf("run `make csi`: %w", err)
	}
	var files []images.File
	for _, entry := range entries {
		source := filepath.Join(dir, entry.Name())
		if err := checkStatic(source); err != nil {
			return images.Built{}, err
		}
		files = append(files, images.File{Path: "usr/bin/" + entry.Name(), Mode: 0o755, Source: source})
	}
	layer, err := images.PackLayer(filepath.Join(b.cache, "csi", "top.layer"), files, images.Zstd, b.created)
	if err != nil {
		return images.Built{}, err
	}
	return images.Build(images.Spec{
		Refs: []string{b.ref("csi")}, Layers: []*images.Layer{layer}, Created: b.created, Output: b.tar("csi"),
		Config: images.Config{Env: []string{"PATH=/usr/bin"}, User: "0:0", WorkingDir: "/"},
	})
}
