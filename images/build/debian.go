package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"virtctl/internal/images"
)

// debianSize is the guest's root partition, most of it empty; cloud-init lets it grow with the disk.
const debianSize = 4 << 30

func debianTools() []string {
	return append([]string{"mmdebstrap", "xz", "mkfs.ext4"}, diskTools()...)
}

func buildDebian(ctx context.Context, b *builder) (images.Built, error) {
	loaders, err := demoTree(ctx, b)
	if err != nil {
		return images.Built{}, err
	}
	packages, err := packageList(filepath.Join(b.source, "debian", "packages.txt"))
	if err != nil {
		return images.Built{}, err
	}
	home, err := filepath.Abs(filepath.Join(b.source, "debian"))
	if err != nil {
		return images.Built{}, fmt.Errorf("find the debian guest's files: %w", err)
	}
	tree, err := b.tree(ctx, rootfs{
		name: "debian-base", variant: "minbase", packages: packages,
		overlay: filepath.Join(home, "root"), customize: filepath.Join(home, "customize.sh"),
	})
	if err != nil {
		return images.Built{}, err
	}
	vmlinuz, err := one(tree, "boot/vmlinuz-*")
	if err != nil {
		return images.Built{}, err
	}
	boot := bootDisk{
		name: "debian", vmlinuz: vmlinuz, initrd: strings.Replace(vmlinuz, "vmlinuz-", "initrd.img-", 1), loaders: loaders,
		options: "root=LABEL=root ro console=tty0 console=ttyS0,115200n8", root: tree, size: debianSize,
	}
	disk := filepath.Join(b.cache, "debian", "debian.qcow2")
	if err := boot.write(ctx, b, disk, "-c"); err != nil {
		return images.Built{}, err
	}
	files, err := images.ContainerDisk(disk)
	if err != nil {
		return images.Built{}, err
	}
	return b.image("debian", nil, files, images.Config{})
}
