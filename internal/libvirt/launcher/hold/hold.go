// Package hold is what an attachment pod does: it keeps a volume on the node while a virtual machine uses it, and answers
// virt-handler so that this can tell the pod's process from others.
package hold

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"virtctl/internal/libvirt/disk"
	"virtctl/internal/libvirt/wire"
)

// Options say what is held and where virt-handler looks.
type Options struct {
	Version string
	// Socket is where virt-handler connects.
	Socket string
	// Image is the disk image of a Filesystem volume, empty for a device. It is made with Capacity bytes when it is missing.
	Image       string
	Capacity    int64
	Preallocate bool
}

// Run holds until ctx ends.
func Run(ctx context.Context, o Options) error {
	if o.Image != "" {
		spec := wire.DiskSpec{
			Name: filepath.Base(o.Image), Kind: wire.DiskFile, Source: o.Image, Create: o.Capacity > 0, Capacity: o.Capacity,
			Preallocate: o.Preallocate,
		}
		if _, err := (disk.Maker{}).Prepare(ctx, []wire.DiskSpec{spec}); err != nil {
			return fmt.Errorf("make the disk image ready: %w", err)
		}
	}
	listener, err := listen(o.Socket)
	if err != nil {
		return err
	}
	defer os.Remove(o.Socket)
	info := wire.Info{Version: wire.Version, LauncherVersion: o.Version}
	return wire.Serve(ctx, listener, wire.Handler{
		wire.MethodInfo: wire.Getter(func(context.Context) (wire.Info, error) { return info, nil }),
	})
}

// listen gives the socket its name last: whoever sees the name can connect.
func listen(path string) (*net.UnixListener, error) {
	temporary := path + ".new"
	for _, p := range []string{temporary, path} {
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("remove a stale socket: %w", err)
		}
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for virt-handler: %w", err)
	}
	listener.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(temporary, 0o600), os.Rename(temporary, path)); err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("listen for virt-handler: %w", err)
	}
	return listener, nil
}
