package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"virtctl/internal/libvirt/process"
)

const (
	// Marker is what a guest prints on its first serial port when its first program runs.
	Marker = "virtctl-probe: a guest runs"
	// DefaultKernel is where the launcher image keeps a kernel for this.
	DefaultKernel = "/usr/share/virtctl/probe/vmlinuz"
	// DefaultKVMTimeout is how long the guest may take: a second where KVM works.
	DefaultKVMTimeout = 3 * time.Second
	qemu              = "/usr/bin/qemu-system-x86_64"
	// maxConsole bounds what is kept of the guest's output.
	maxConsole = 64 << 10
)

// bootWithKVM runs a Linux guest with KVM up to its first program. Less proves nothing: there are machines whose /dev/kvm opens,
// creates virtual machines and runs real-mode code, and whose guests hang as soon as a kernel starts.
func (s stage) bootWithKVM(ctx context.Context, reaper *process.Reaper) error {
	if _, err := os.Stat(s.Kernel); err != nil {
		return fmt.Errorf("there is /dev/kvm, but no kernel to try it with: %w", err)
	}
	initrd := s.Initrd
	if initrd == "" {
		initrd = filepath.Join(s.Work, "initrd")
		if err := os.WriteFile(initrd, TinyInitrd(), 0o644); err != nil {
			return fmt.Errorf("make an initrd: %w", err)
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start a guest: %w", err)
	}
	defer r.Close()
	child, err := reaper.Start(process.Command{
		Path: qemu, Dir: s.Work, Env: []string{"PATH=/usr/bin"}, Files: []*os.File{nil, w, w},
		Args: []string{
			"-machine", "q35,accel=kvm", "-cpu", "host", "-m", "128", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
			"-kernel", s.Kernel, "-initrd", initrd, "-append", "console=ttyS0 panic=-1 quiet",
		},
	})
	_ = w.Close()
	if err != nil {
		return err
	}
	defer func() {
		reaper.Signal(child, syscall.SIGKILL)
		<-child.Done()
	}()
	return awaitMarker(ctx, r, s.Timeout)
}

// awaitMarker reads a guest's output until the marker comes.
func awaitMarker(ctx context.Context, console *os.File, timeout time.Duration) error {
	began := time.Now()
	if err := console.SetReadDeadline(began.Add(timeout)); err != nil {
		return fmt.Errorf("read the guest's console: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = console.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var seen []byte
	buf := make([]byte, 4<<10)
	for {
		n, err := console.Read(buf)
		seen = append(seen, buf[:n]...)
		if bytes.Contains(seen, []byte(Marker)) {
			return nil
		}
		if len(seen) > maxConsole {
			seen = append(seen[:0], seen[len(seen)-maxConsole/2:]...)
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("/dev/kvm opens, but a Linux guest did not get to its first program within %s%s", timeout, lastLine(seen))
		case errors.Is(err, io.EOF):
			return fmt.Errorf("/dev/kvm opens, but QEMU ended without running a guest%s", lastLine(seen))
		case err != nil:
			return fmt.Errorf("read the guest's console: %w", err)
		}
	}
}

// lastLine quotes the last thing a guest or QEMU said.
func lastLine(seen []byte) string {
	seen = bytes.TrimSpace(seen)
	if len(seen) == 0 {
		return ""
	}
	return fmt.Sprintf("; the last it said: %.200q", bytes.TrimSpace(seen[bytes.LastIndexByte(seen, '\n')+1:]))
}
