package main

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"virtctl/internal/images"

	"github.com/klauspost/compress/zstd"
)

// guestKernel is what both demo images boot.
type guestKernel struct {
	vmlinuz string // file
	initrd  string // file
	tree    string // the unpacked Debian packages
}

// demoOptions: the serial console comes last, so that it is /dev/console.
const demoOptions = "console=tty0 console=ttyS0,115200n8 quiet panic=1"

func demoTools() []string {
	return append([]string{"mmdebstrap", "xz"}, diskTools()...)
}

func buildDemo(ctx context.Context, b *builder) (images.Built, error) {
	kernel, err := demoKernel(ctx, b)
	if err != nil {
		return images.Built{}, err
	}
	disk := filepath.Join(b.cache, "demo", "demo.qcow2")
	boot := bootDisk{name: "demo", vmlinuz: kernel.vmlinuz, initrd: kernel.initrd, options: demoOptions, loaders: kernel.tree}
	if err := boot.write(ctx, b, disk); err != nil {
		return images.Built{}, err
	}
	files, err := images.ContainerDisk(disk)
	if err != nil {
		return images.Built{}, err
	}
	return b.image("demo", nil, files, images.Config{})
}

func buildDemoKernel(ctx context.Context, b *builder) (images.Built, error) {
	kernel, err := demoKernel(ctx, b)
	if err != nil {
		return images.Built{}, err
	}
	files := []images.File{
		{Path: "boot/vmlinuz", Mode: 0o444, UID: launcherUser, GID: launcherUser, Source: kernel.vmlinuz},
		{Path: "boot/initrd.img", Mode: 0o444, UID: launcherUser, GID: launcherUser, Source: kernel.initrd},
	}
	return b.image("demo-kernel", nil, files, images.Config{})
}

// demoTree unpacks the Debian packages that guests are made from.
func demoTree(ctx context.Context, b *builder) (string, error) {
	packages, err := packageList(filepath.Join(b.source, "demo", "packages.txt"))
	if err != nil {
		return "", err
	}
	return b.tree(ctx, rootfs{name: "demo-base", variant: "extract", packages: packages})
}

// demoKernel unpacks the kernel and packs the initrd.
func demoKernel(ctx context.Context, b *builder) (guestKernel, error) {
	tree, err := demoTree(ctx, b)
	if err != nil {
		return guestKernel{}, err
	}
	vmlinuz, err := one(tree, "boot/vmlinuz-*")
	if err != nil {
		return guestKernel{}, err
	}
	kernel := guestKernel{vmlinuz: vmlinuz, tree: tree, initrd: filepath.Join(b.cache, "demo", "initrd.img")}
	release := strings.TrimPrefix(filepath.Base(vmlinuz), "vmlinuz-")
	content, err := b.demoInitrd(ctx, tree, release)
	if err != nil {
		return guestKernel{}, err
	}
	if err := os.MkdirAll(filepath.Dir(kernel.initrd), 0o755); err != nil {
		return guestKernel{}, fmt.Errorf("make the folder for the initrd: %w", err)
	}
	if err := os.WriteFile(kernel.initrd, content, 0o644); err != nil {
		return guestKernel{}, fmt.Errorf("write the initrd: %w", err)
	}
	return kernel, nil
}

// demoInitrd is the whole guest: it never leaves its initial RAM file system.
func (b *builder) demoInitrd(ctx context.Context, tree, release string) ([]byte, error) {
	guest := initrd{}
	for _, dir := range []string{"proc", "sys", "mnt/seed", "etc/dropbear", "root", "var/log", "var/tmp"} {
		guest.dir(dir, 0o755)
	}
	guest.dir("root", 0o700)
	guest.dir("tmp", fs.ModeSticky|0o777)
	guest.add(node{path: "home/demo", mode: fs.ModeDir | 0o755, uid: 1000})
	guest.dir("dev", 0o755)
	guest.add(node{path: "dev/console", mode: fs.ModeCharDevice | 0o600, dev: [2]int{5, 1}})
	guest.dir("run/seed/run", 0o755)
	guest.link("var/run", "../run")
	guest.add(node{path: "run/utmp", mode: 0o644})
	guest.add(node{path: "var/log/wtmp", mode: 0o644})
	if err := addBusybox(ctx, guest, filepath.Join(tree, "usr/bin/busybox")); err != nil {
		return nil, err
	}
	for _, program := range []string{"usr/sbin/qemu-ga", "usr/sbin/dropbear", "usr/bin/dropbearkey", "usr/lib/openssh/sftp-server", "usr/sbin/mke2fs"} {
		if err := addProgram(guest, tree, program); err != nil {
			return nil, fmt.Errorf("put %s into the guest: %w", program, err)
		}
	}
	guest.link("usr/lib/sftp-server", "openssh/sftp-server") // where dropbear looks for it: today's scp speaks SFTP
	for _, kind := range []string{"ext2", "ext3", "ext4"} {
		guest.link("usr/sbin/mkfs."+kind, "mke2fs")
	}
	if err := b.addSeedProgram(ctx, guest); err != nil {
		return nil, err
	}
	if err := addTree(guest, filepath.Join(b.source, "demo", "root")); err != nil {
		return nil, err
	}
	// root has no password; demo's is "demo".
	shadow, err := exec.CommandContext(ctx, filepath.Join(tree, "usr/bin/busybox"), "mkpasswd", "-m", "sha512", "-S", "virtctldemo", "demo").Output()
	if err != nil {
		return nil, fmt.Errorf("encrypt the demo user's password: %w", err)
	}
	guest.add(node{path: "etc/shadow", mode: 0o600, data: []byte(
		"root::20000:0:99999:7:::\ndemo:" + strings.TrimSpace(string(shadow)) + ":20000:0:99999:7:::\nnobody:*:20000:0:99999:7:::\n")})
	names, err := packageList(filepath.Join(b.source, "demo", "modules.txt"))
	if err != nil {
		return nil, err
	}
	mods, err := modules(ctx, filepath.Join(tree, "usr/lib/modules", release), names)
	if err != nil {
		return nil, err
	}
	addModules(guest, release, mods)
	var archive bytes.Buffer
	if err := guest.write(&archive); err != nil {
		return nil, err
	}
	return compressInitrd(archive.Bytes())
}

// compressInitrd uses zstd: the guest's firmware reads the initrd slowly, and its kernel unpacks zstd quickly.
func compressInitrd(archive []byte) ([]byte, error) {
	var out bytes.Buffer
	// The kernel refuses a window of more than 8 MiB, which a frame of one segment would have.
	z, err := zstd.NewWriter(&out, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(8<<20))
	if err != nil {
		return nil, fmt.Errorf("compress the initrd: %w", err)
	}
	if _, err := z.Write(archive); err != nil {
		return nil, fmt.Errorf("compress the initrd: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("compress the initrd: %w", err)
	}
	return out.Bytes(), nil
}

// addBusybox adds the program and a link for each thing it can do.
func addBusybox(ctx context.Context, guest initrd, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read busybox: %w", err)
	}
	applets, err := exec.CommandContext(ctx, file, "--list-full").Output()
	if err != nil {
		return fmt.Errorf("ask busybox what it can do: %w", err)
	}
	for _, applet := range strings.Fields(string(applets)) {
		guest.link(applet, "/bin/busybox")
	}
	guest.link("init", "/bin/busybox")
	guest.add(node{path: "bin/busybox", mode: 0o755, data: data}) // last: it lists itself too
	return nil
}

// addProgram adds a dynamically linked program of the tree and the libraries it needs.
func addProgram(guest initrd, tree, program string) error {
	for todo := []string{program}; len(todo) > 0; todo = todo[1:] {
		if _, ok := guest[todo[0]]; ok {
			continue
		}
		data, err := os.ReadFile(filepath.Join(tree, todo[0]))
		if err != nil {
			return err
		}
		guest.add(node{path: todo[0], mode: 0o755, data: data})
		object, err := elf.NewFile(bytes.NewReader(data))
		if err != nil {
			return fmt.Errorf("read %s: %w", todo[0], err)
		}
		libraries, err := object.ImportedLibraries()
		if err != nil {
			return fmt.Errorf("read %s: %w", todo[0], err)
		}
		for _, l := range libraries {
			todo = append(todo, "usr/lib/x86_64-linux-gnu/"+l)
		}
	}
	const loader = "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
	data, err := os.ReadFile(filepath.Join(tree, loader))
	if err != nil {
		return err
	}
	guest.add(node{path: loader, mode: 0o755, data: data})
	guest.link("lib64/ld-linux-x86-64.so.2", "/"+loader)
	return nil
}

// addSeedProgram compiles the reader of instance data for the guest.
func (b *builder) addSeedProgram(ctx context.Context, guest initrd) error {
	file, err := filepath.Abs(filepath.Join(b.cache, "demo", "seed"))
	if err != nil {
		return fmt.Errorf("place the seed program: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", file, "./"+filepath.ToSlash(filepath.Join(b.source, "demo", "seed")))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compile the demo guest's seed program: %w\n%s", err, tail(out, 4000))
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the seed program: %w", err)
	}
	guest.add(node{path: "usr/sbin/seed", mode: 0o755, data: data})
	return nil
}

// addTree adds the guest's own files. Scripts are known by their first two bytes: a checkout need not keep modes.
func addTree(guest initrd, dir string) error {
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if bytes.HasPrefix(data, []byte("#!")) {
			mode = 0o755
		}
		guest.add(node{path: filepath.ToSlash(rel), mode: mode, data: data})
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the demo guest's files: %w", err)
	}
	return nil
}
