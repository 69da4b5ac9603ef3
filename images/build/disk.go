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
	// The disk has one FAT partition, which BIOS (by the boot sector) and UEFI (as the system partition) both boot from.
	partitionStart = 2048 * sector
	partitionSize  = 64 << 20
)

// kernelOptions are the guest's in every way of booting it. The serial console comes last: it is /dev/console.
const kernelOptions = "console=tty0 console=ttyS0,115200n8 quiet panic=1 net.ifnames=0"

func diskTools() []string { return []string{"qemu-img", "mformat", "mcopy", "mmd", "syslinux"} }

// bootDisk writes a bootable qcow2 disk with the kernel. No loop device, no mount: mtools and syslinux write into the file.
func (b *builder) bootDisk(ctx context.Context, kernel guestKernel, disk string) error {
	raw := disk + ".raw"
	defer os.Remove(raw)
	if err := partitionedFile(raw); err != nil {
		return err
	}
	if err := b.fillBootPartition(ctx, kernel, raw); err != nil {
		return err
	}
	// Beside the old one, which a guest may be running from.
	fresh := disk + ".new"
	if err := b.run(ctx, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, fresh); err != nil {
		return fmt.Errorf("convert the disk: %w", err)
	}
	if err := os.Rename(fresh, disk); err != nil {
		return fmt.Errorf("keep the disk: %w", err)
	}
	return nil
}

// partitionedFile makes the raw disk: syslinux's boot code and a partition table with one active EFI system partition.
func partitionedFile(raw string) error {
	boot, err := os.ReadFile("/usr/lib/SYSLINUX/mbr.bin")
	if err != nil {
		boot, err = os.ReadFile("/usr/lib/syslinux/mbr/mbr.bin")
	}
	if err != nil || len(boot) > 440 {
		return fmt.Errorf("read syslinux's boot code (apt-get install -y --no-install-recommends syslinux-common): %w", err)
	}
	table := make([]byte, sector)
	copy(table, boot)
	binary.LittleEndian.PutUint32(table[440:], 0x76697274) // the disk's signature, the same in every build
	entry := table[446:]
	entry[0] = 0x80                           // active
	copy(entry[1:], []byte{0xfe, 0xff, 0xff}) // CHS addresses that say: use the LBA ones
	entry[4] = 0xef                           // EFI system partition
	copy(entry[5:], []byte{0xfe, 0xff, 0xff})
	binary.LittleEndian.PutUint32(entry[8:], partitionStart/sector)
	binary.LittleEndian.PutUint32(entry[12:], partitionSize/sector)
	table[510], table[511] = 0x55, 0xaa
	if err := os.WriteFile(raw, table, 0o644); err != nil {
		return fmt.Errorf("write the disk: %w", err)
	}
	if err := os.Truncate(raw, partitionStart+partitionSize); err != nil {
		return fmt.Errorf("size the disk: %w", err)
	}
	return nil
}

func (b *builder) fillBootPartition(ctx context.Context, kernel guestKernel, raw string) error {
	at := raw + "@@" + strconv.Itoa(partitionStart)
	syslinux, err := tempFile(filepath.Dir(raw), "SERIAL 0 115200\nPROMPT 0\nDEFAULT demo\nLABEL demo\n  LINUX /vmlinuz\n  INITRD /initrd.img\n  APPEND "+kernelOptions+"\n")
	if err != nil {
		return err
	}
	defer os.Remove(syslinux)
	entry, err := tempFile(filepath.Dir(raw), "title demo\nlinux /vmlinuz\ninitrd /initrd.img\noptions "+kernelOptions+"\n")
	if err != nil {
		return err
	}
	defer os.Remove(entry)
	loader, err := tempFile(filepath.Dir(raw), "timeout 0\nconsole-mode keep\n")
	if err != nil {
		return err
	}
	defer os.Remove(loader)
	shim := filepath.Join(kernel.tree, "usr/lib/shim/shimx64.efi.signed")
	// Microsoft signed shim, Debian systemd-boot and the kernel: the disk starts with Secure Boot on. Shim starts "grubx64.efi".
	boot := filepath.Join(kernel.tree, "usr/lib/systemd/boot/efi/systemd-bootx64.efi.signed")
	steps := [][]string{
		{"mformat", "-i", at, "-T", strconv.Itoa(partitionSize / sector), "-h", "255", "-s", "63", "-H", strconv.Itoa(partitionStart / sector), "-N", "76697274", "-v", "DEMO", "::"},
		{"mmd", "-i", at, "::/EFI", "::/EFI/BOOT", "::/loader", "::/loader/entries", "::/syslinux"},
		{"mcopy", "-i", at, kernel.vmlinuz, "::/vmlinuz"},
		{"mcopy", "-i", at, kernel.initrd, "::/initrd.img"},
		{"mcopy", "-i", at, shim, "::/EFI/BOOT/BOOTX64.EFI"},
		{"mcopy", "-i", at, boot, "::/EFI/BOOT/grubx64.efi"},
		{"mcopy", "-i", at, entry, "::/loader/entries/demo.conf"},
		{"mcopy", "-i", at, loader, "::/loader/loader.conf"},
		{"mcopy", "-i", at, syslinux, "::/syslinux/syslinux.cfg"},
		{"syslinux", "--install", "--directory", "syslinux", "--offset", strconv.Itoa(partitionStart), raw},
	}
	for _, step := range steps {
		if err := b.run(ctx, step[0], step[1:]...); err != nil {
			return fmt.Errorf("fill the boot partition: %w", err)
		}
	}
	return nil
}

func tempFile(dir, content string) (string, error) {
	f, err := os.CreateTemp(dir, ".boot-*")
	if err != nil {
		return "", fmt.Errorf("write a boot file: %w", err)
	}
	defer f.Close()
	if _, err := f.WriteString(content); err != nil {
		return "", fmt.Errorf("write a boot file: %w", err)
	}
	return f.Name(), nil
}
