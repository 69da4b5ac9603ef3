package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"virtctl/internal/images"
)

// launcherUser is KubeVirt's uid and gid for everything inside a VM's pod.
const launcherUser = 107

func buildLauncher(ctx context.Context, b *builder) (images.Built, error) {
	program, err := b.program("virt-launcher")
	if err != nil {
		return images.Built{}, err
	}
	base, dir, err := launcherBase(ctx, b)
	if err != nil {
		return images.Built{}, err
	}
	if err := checkProgram(dir, program.Source); err != nil {
		return images.Built{}, err
	}
	worker, err := b.program("cdi-worker")
	if err != nil {
		return images.Built{}, err
	}
	if err := checkStatic(worker.Source); err != nil {
		return images.Built{}, err
	}
	kernel, err := probeKernel(ctx, b)
	if err != nil {
		return images.Built{}, err
	}
	return b.image("virt-launcher", []*images.Layer{base}, []images.File{kernel, program, worker}, images.Config{
		Entrypoint: []string{"/usr/bin/virt-launcher"},
		Env:        []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
		User:       fmt.Sprintf("%d:%d", launcherUser, launcherUser),
		WorkingDir: "/",
	})
}

// probeKernel is what `virt-launcher probe` boots to find out whether hardware virtualization really works.
func probeKernel(ctx context.Context, b *builder) (images.File, error) {
	tree, err := demoTree(ctx, b)
	if err != nil {
		return images.File{}, err
	}
	vmlinuz, err := one(tree, "boot/vmlinuz-*")
	if err != nil {
		return images.File{}, err
	}
	return images.File{Path: "usr/share/virtctl/probe/vmlinuz", Mode: 0o444, Source: vmlinuz}, nil
}

// launcherBase is the distribution part, packed, and the folder it was packed from. It is kept: a changed program costs only the small layer above it.
func launcherBase(ctx context.Context, b *builder) (layer *images.Layer, dir string, err error) {
	packages, err := packageList(filepath.Join(b.source, "launcher", "packages.txt"))
	if err != nil {
		return nil, "", err
	}
	script, err := filepath.Abs(filepath.Join(b.source, "launcher", "customize.sh"))
	if err != nil {
		return nil, "", fmt.Errorf("find the launcher's script: %w", err)
	}
	dir, err = b.tree(ctx, rootfs{
		name: "launcher-base", variant: "minbase",
		packages: packages, customize: script,
	})
	if err != nil {
		return nil, "", err
	}
	blob := dir + ".layer"
	layer, err = images.LoadLayer(blob)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return layer, dir, err
	}
	if err := checkLibraries(dir); err != nil {
		return nil, "", fmt.Errorf("the virt-launcher image would not run: %w", err)
	}
	b.logf("launcher-base: packing")
	files, err := images.Tree(dir, nil)
	if err != nil {
		return nil, "", err
	}
	layer, err = images.PackLayer(blob, rootOwned(files), images.Zstd, b.created)
	return layer, dir, err
}

// rootOwned gives every file to root (the accounts that packages made do not exist in the image) but the folders in which the launcher's user
// works.
func rootOwned(files []images.File) []images.File {
	for i := range files {
		f := &files[i]
		f.UID, f.GID = 0, 0
		switch f.Path {
		case "tmp", "var/tmp", "run/kubevirt-private":
			f.UID, f.GID, f.Mode = launcherUser, launcherUser, fs.ModeDir|0o755
		}
	}
	return files
}
