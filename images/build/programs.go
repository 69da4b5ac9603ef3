package main

import (
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"

	"virtctl/internal/images"
)

// certificates is where this machine keeps the public CAs, which go into the images for registries and import sources.
const certificates = "/etc/ssl/certs/ca-certificates.crt"

func buildServer(_ context.Context, b *builder) (images.Built, error) {
	return staticImage(b, "virt-server", 1001)
}

// The node agent runs as root in its pod: it enters other pods' network namespaces.
func buildHandler(_ context.Context, b *builder) (images.Built, error) {
	return staticImage(b, "virt-handler", 0)
}

// staticImage holds one program and nothing of a distribution.
func staticImage(b *builder, name string, uid int) (images.Built, error) {
	program, err := b.program(name)
	if err != nil {
		return images.Built{}, err
	}
	if err := checkStatic(program.Source); err != nil {
		return images.Built{}, err
	}
	cas, err := os.ReadFile(certificates)
	if err != nil {
		return images.Built{}, fmt.Errorf("read the public certificate authorities (apt-get install ca-certificates): %w", err)
	}
	passwd := "root:x:0:0:root:/:/sbin/nologin\nvirt:x:1001:1001:virt:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"
	files := []images.File{
		program,
		{Path: "etc/ssl/certs/ca-certificates.crt", Mode: 0o644, Data: cas},
		{Path: "etc/passwd", Mode: 0o644, Data: []byte(passwd)},
		{Path: "etc/group", Mode: 0o644, Data: []byte("root:x:0:\nvirt:x:1001:\nnogroup:x:65534:\n")},
		// Names are looked up in /etc/hosts first, as on a distribution.
		{Path: "etc/nsswitch.conf", Mode: 0o644, Data: []byte("hosts: files dns\n")},
		images.Dir("tmp", fs.ModeSticky|0o777, 0, 0),
	}
	return b.image(name, nil, files, images.Config{
		Entrypoint: []string{"/usr/bin/" + name},
		Env:        []string{"PATH=/usr/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"},
		User:       fmt.Sprintf("%d:%d", uid, uid),
		WorkingDir: "/",
	})
}

// checkStatic refuses a program that would not start in an image without a C library.
func checkStatic(file string) error {
	f, err := elf.Open(file)
	if err != nil {
		return fmt.Errorf("%s is not a Linux program: build it with `make %s`: %w", file, file, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s needs shared libraries and its image has none: build it with CGO_ENABLED=0 (`make %s` does)", file, file)
		}
	}
	return nil
}
