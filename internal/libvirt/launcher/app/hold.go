package app

import (
	"context"
	"fmt"
	"os/signal"
	"syscall"

	"virtctl/internal/libvirt/launcher/hold"
	"virtctl/internal/libvirt/layout"
	"virtctl/internal/version"
)

// holdVolume keeps a volume until the pod is told to end.
func holdVolume(ctx context.Context, _ Streams, args []string) error {
	o := hold.Options{Version: version.Version(), Socket: layout.LauncherSocket}
	flags := newFlags("hold")
	flags.StringVar(&o.Image, "image", "", "disk image to hold; empty for a device")
	flags.Int64Var(&o.Capacity, "capacity", 0, "size in bytes of an image that is missing; 0 makes none")
	flags.BoolVar(&o.Preallocate, "preallocate", false, "make the image without holes")
	if err := parse(flags, args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("hold takes no arguments: %w", errUsage)
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return hold.Run(ctx, o)
}
