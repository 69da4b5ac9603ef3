package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"virtctl/internal/images"
)

// builder knows where things are and how images are named; every target is a method of it.
type builder struct {
	source  string // the folder images/
	bin     string // where the Makefile puts our programs
	out     string // the tars
	cache   string // rootfs trees and packed layers that are kept from run to run
	prefix  string // registry and path of the images' names
	tag     string
	mirror  string // Debian's
	created time.Time
	log     io.Writer
}

// target is one image this program can make.
type target struct {
	name     string
	about    string
	tools    []string // programs of this machine it needs
	onDemand bool
	build    func(context.Context, *builder) (images.Built, error)
}

func targets() []target {
	return []target{
		{name: "virt-launcher", about: "libvirt, QEMU and what a VM's pod needs, with our launcher", tools: []string{"mmdebstrap"}, build: buildLauncher},
		{name: "virt-server", about: "the cluster's side: one static program", build: buildServer},
		{name: "virt-handler", about: "the node agent: one static program", build: buildHandler},
		{name: "demo", about: "guest: kernel and busybox on a bootable disk", tools: demoTools(), build: buildDemo},
		{name: "demo-kernel", about: "guest: the same kernel and initrd, for kernelBoot", tools: []string{"mmdebstrap", "xz"}, build: buildDemoKernel},
		{name: "debian", about: "guest: Debian with cloud-init, sshd and qemu-guest-agent (built only when named)", tools: debianTools(), onDemand: true, build: buildDebian},
		{name: "csi", about: "storage for tests that clones and makes snapshots (built only when named)", onDemand: true, build: buildCSI},
	}
}

// ref is the full name of one of our images.
func (b *builder) ref(name string) string { return b.prefix + "/" + name + ":" + b.tag }

func (b *builder) tar(name string) string { return filepath.Join(b.out, name+".tar") }

func (b *builder) logf(format string, args ...any) { fmt.Fprintf(b.log, format+"\n", args...) }

// image packs files as the top layer over base and writes the tar.
func (b *builder) image(name string, base []*images.Layer, files []images.File, cfg images.Config) (images.Built, error) {
	top, err := images.PackLayer(filepath.Join(b.cache, name, "top.layer"), files, images.Gzip, b.created)
	if err != nil {
		return images.Built{}, err
	}
	if cfg.Labels == nil {
		cfg.Labels = map[string]string{}
	}
	cfg.Labels["org.opencontainers.image.title"] = name
	cfg.Labels["org.opencontainers.image.version"] = b.tag
	return images.Build(images.Spec{
		Refs:    []string{b.ref(name)},
		Layers:  append(base, top),
		Config:  cfg,
		Created: b.created,
		Output:  b.tar(name),
	})
}

// program is the entry for one of our own programs, built beforehand.
func (b *builder) program(name string) (images.File, error) {
	file := filepath.Join(b.bin, name)
	if _, err := os.Stat(file); err != nil {
		return images.File{}, fmt.Errorf("%s is not built yet: run `make %s`", file, file)
	}
	return images.File{Path: "usr/bin/" + name, Mode: 0o755, Source: file}, nil
}

// run starts a program of this machine; its output is shown only when it fails.
func (b *builder) run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", b.created.Unix()), "LC_ALL=C", "TZ=UTC")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, tail(out, 4000))
	}
	return nil
}

func tail(b []byte, n int) []byte {
	if len(b) > n {
		return b[len(b)-n:]
	}
	return b
}
