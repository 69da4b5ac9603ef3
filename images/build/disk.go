package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

const (
	sector = 512
	// The first partition begins where every partitioning program puts it.
	bootStart = 2048 * sector
	bootSize  = 64 << 20
)

// bootDisk describes a guest's disk. Its first partition is FAT, which BIOS (by the boot sector) and UEFI (as the system partition) both
// start from: it holds the kernel.
type bootDisk struct {
	name    string // in the loaders' menus
	vmlinuz string
	initrd  string
	options string // the kernel's
	loaders string // tree with the signed EFI loaders
	root    string // tree for a second partition with an ext4 file system, or empty
	size    int64  // of that partition
}

func diskTools() []string { return []string{"qemu-img", "mformat", "mcopy", "mmd", "syslinux"} }

// write makes the disk as qcow2, with further options for its conversion. No loop device, no mount: the tools write into the file.
func (d bootDisk) write(ctx context.Context, b *builder, out string, convert ...string) error {
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return fmt.Errorf("make the folder for the disk: %w", err)
	}
	raw := out + ".raw"
	defer os.Remove(raw)
	if err := d.partition(raw); err != nil {
		return err
	}
	if err := d.fillBoot(ctx, b, raw); err != nil {
		return err
	}
	if d.root != "" {
		if err := d.fillRoot(ctx, b, raw); err != nil {
			return err
		}
	}
	// Beside the old one, which a guest may be running from.
	fresh := out + ".new"
	args := append([]string{"convert", "-f", "raw", "-O", "qcow2"}, convert...)
	if err := b.run(ctx, "qemu-img", append(args, raw, fresh)...); err != nil {
		return fmt.Errorf("convert the disk: %w", err)
	}
	if err := os.Rename(fresh, out); err != nil {
		return fmt.Errorf("keep the disk: %w", err)
	}
	return nil
}

// partition makes the raw disk: syslinux's boot code and a table whose active partition is an EFI system partition.
func (d bootDisk) partition(raw string) error {
	boot, err := os.ReadFile("/usr/lib/SYSLINUX/mbr.bin")
	if err != nil {
		boot, err = os.ReadFile("/usr/lib/syslinux/mbr/mbr.bin")
	}
	if err != nil {
		return fmt.Errorf("read syslinux's boot code (apt-get install -y --no-install-recommends syslinux syslinux-common): %w", err)
	}
	table := make([]byte, sector)
	copy(table[:440], boot)
	binary.LittleEndian.PutUint32(table[440:], 0x76697274) // the disk's signature, the same in every build
	partitionEntry(table[446:], 0xef, bootStart, bootSize)
	table[446] = 0x80 // active
	end := int64(bootStart + bootSize)
	if d.root != "" {
		partitionEntry(table[462:], 0x83, end, d.size)
		end += d.size
	}
	table[510], table[511] = 0x55, 0xaa
	if err := os.WriteFile(raw, table, 0o644); err != nil {
		return fmt.Errorf("write the disk: %w", err)
	}
	if err := os.Truncate(raw, end); err != nil {
		return fmt.Errorf("size the disk: %w", err)
	}
	return nil
}

// partitionEntry fills one entry of the table; its old-style addresses say that the others count.
func partitionEntry(entry []byte, kind byte, start, size int64) {
	copy(entry[1:], []byte{0xfe, 0xff, 0xff})
	entry[4] = kind
	copy(entry[5:], []byte{0xfe, 0xff, 0xff})
	binary.LittleEndian.PutUint32(entry[8:], uint32(start/sector))
	binary.LittleEndian.PutUint32(entry[12:], uint32(size/sector))
}

func (d bootDisk) fillBoot(ctx context.Context, b *builder, raw string) error {
	texts, err := os.MkdirTemp(filepath.Dir(raw), ".boot-*")
	if err != nil {
		return fmt.Errorf("write the boot files: %w", err)
	}
	defer os.RemoveAll(texts)
	for name, content := range map[string]string{
		"syslinux.cfg": "SERIAL 0 115200\nPROMPT 0\nDEFAULT linux\nLABEL linux\n  LINUX /vmlinuz\n  INITRD /initrd.img\n  APPEND " + d.options + "\n",
		"linux.conf":   "title " + d.name + "\nlinux /vmlinuz\ninitrd /initrd.img\noptions " + d.options + "\n",
		"loader.conf":  "timeout 0\nconsole-mode keep\n",
	} {
		if err := os.WriteFile(filepath.Join(texts, name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("write the boot files: %w", err)
		}
	}
	at := raw + "@@" + strconv.Itoa(bootStart)
	put := func(from, to string) []string { return []string{"mcopy", "-i", at, from, "::" + to} }
	steps := [][]string{
		{"mformat", "-i", at, "-T", strconv.Itoa(bootSize / sector), "-h", "255", "-s", "63", "-H", strconv.Itoa(bootStart / sector), "-N", "76697274", "-v", "BOOT", "::"},
		{"mmd", "-i", at, "::/EFI", "::/EFI/BOOT", "::/loader", "::/loader/entries", "::/syslinux"},
		put(d.vmlinuz, "/vmlinuz"),
		put(d.initrd, "/initrd.img"),
		// Microsoft signed shim; Debian signed systemd-boot, which shim looks for under this name, and the kernel: Secure Boot can be on.
		put(filepath.Join(d.loaders, "usr/lib/shim/shimx64.efi.signed"), "/EFI/BOOT/BOOTX64.EFI"),
		put(filepath.Join(d.loaders, "usr/lib/systemd/boot/efi/systemd-bootx64.efi.signed"), "/EFI/BOOT/grubx64.efi"),
		put(filepath.Join(texts, "linux.conf"), "/loader/entries/linux.conf"),
		put(filepath.Join(texts, "loader.conf"), "/loader/loader.conf"),
		put(filepath.Join(texts, "syslinux.cfg"), "/syslinux/syslinux.cfg"),
		{"syslinux", "--install", "--directory", "syslinux", "--offset", strconv.Itoa(bootStart), raw},
	}
	for _, step := range steps {
		if err := b.run(ctx, step[0], step[1:]...); err != nil {
			return fmt.Errorf("fill the boot partition: %w", err)
		}
	}
	return nil
}

// fillRoot writes the tree as an ext4 file system into the second partition. Its UUID is fixed: every copy is of the same image.
func (d bootDisk) fillRoot(ctx context.Context, b *builder, raw string) error {
	const uuid = "76697274-6374-6c00-8000-64656269616e"
	err := b.run(ctx, "mkfs.ext4", "-q", "-F", "-L", "root", "-U", uuid, "-E",
		fmt.Sprintf("offset=%d,hash_seed=%s,lazy_itable_init=1,root_owner=0:0", bootStart+bootSize, uuid),
		"-d", d.root, raw, strconv.FormatInt(d.size>>10, 10)+"k")
	if err != nil {
		return fmt.Errorf("fill the root partition: %w", err)
	}
	return nil
}
