package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"virtctl/internal/libvirt/disk"
	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/wire"
)

// prepare makes the pod ready for a domain. Meanwhile libvirt loads what it must know about QEMU, from the cache that came with
// the request or, without one, by asking QEMU.
func (l *Launcher) prepare(ctx context.Context, r wire.PrepareRequest) (wire.PrepareResult, error) {
	l.preparing.Lock()
	defer l.preparing.Unlock()
	began := time.Now()
	if err := l.dirs.WriteCapabilities(r.CapabilitiesCache); err != nil {
		return wire.PrepareResult{}, err
	}
	l.warmUp.Do(func() { go l.loadCapabilities() })
	if r.Incoming {
		l.machine.setIncoming()
	}
	if err := checkKernel(r.Kernel); err != nil {
		return wire.PrepareResult{}, err
	}
	facts, err := disk.Maker{DiskDir: layout.DiskDir, ISODir: layout.ISODir}.Prepare(ctx, r.Disks)
	if err != nil {
		return wire.PrepareResult{}, err
	}
	l.logf("made %d disks ready in %d ms", len(facts), time.Since(began).Milliseconds())
	return wire.PrepareResult{Disks: facts}, nil
}

// loadCapabilities has libvirt read its cache now and not while a guest is being started.
func (l *Launcher) loadCapabilities() {
	s, err := l.manager.get(l.ctx)
	if err != nil {
		return
	}
	if _, err := s.DomainCapabilities("", "", ""); err != nil {
		l.logf("%v", err)
	}
}

// checkKernel makes sure that the files of a kernel image are there and are files.
func checkKernel(paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	root, err := os.OpenRoot(layout.KernelBootDir)
	if err != nil {
		return &wire.Error{Code: wire.CodeUnavailable, Message: fmt.Sprintf("open the kernel boot image: %v", err)}
	}
	defer root.Close()
	for _, p := range paths {
		name := strings.TrimPrefix(strings.TrimPrefix(p, layout.KernelBootDir), "/")
		info, err := root.Lstat(name)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return &wire.Error{Code: wire.CodeInvalid, Message: fmt.Sprintf("the kernel boot image has no file /%s", name)}
		case err != nil:
			return &wire.Error{Code: wire.CodeInvalid, Message: fmt.Sprintf("kernel boot image: %v", err)}
		case !info.Mode().IsRegular():
			return &wire.Error{Code: wire.CodeInvalid, Message: fmt.Sprintf("/%s of the kernel boot image is not a regular file", name)}
		}
	}
	return nil
}
