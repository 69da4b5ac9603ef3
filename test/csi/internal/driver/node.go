package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"virtctl/test/csi/internal/store"
)

// NodeGetCapabilities tells that publishing is all there is to do on a node.
func (d *Driver) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	return &csi.NodeGetCapabilitiesResponse{}, nil
}

// NodeGetInfo tells which node this is.
func (d *Driver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{
		NodeId: d.node, AccessibleTopology: &csi.Topology{Segments: map[string]string{topologyKey: d.node}},
	}, nil
}

// NodePublishVolume brings a volume to where a pod will use it.
func (d *Driver) NodePublishVolume(_ context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	switch {
	case r.GetVolumeId() == "":
		return nil, missing("the volume's ID")
	case r.GetTargetPath() == "":
		return nil, missing("the target path")
	case r.GetVolumeCapability() == nil:
		return nil, missing("what the volume is for")
	}
	volume, err := d.store.Get(store.Volumes, r.GetVolumeId())
	if err != nil {
		return nil, answer(err)
	}
	if volume.Block != (r.GetVolumeCapability().GetBlock() != nil) {
		return nil, status.Error(codes.InvalidArgument, "the volume is of the other kind")
	}
	if err := d.publish(volume, r.GetTargetPath(), r.GetReadonly()); err != nil {
		return nil, answer(fmt.Errorf("publish: %w", err))
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

func (d *Driver) publish(volume store.Record, target string, readOnly bool) error {
	if there, err := mounted(target); err != nil || there {
		return err
	}
	source := d.store.Content(store.Volumes, volume.ID)
	if volume.Block {
		if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
			return err
		}
		file, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if err := file.Close(); err != nil {
			return err
		}
		if source, err = d.loops.attach(volume.ID, source); err != nil {
			return err
		}
	} else if err := os.MkdirAll(target, 0o750); err != nil {
		return err
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	if readOnly && !volume.Block {
		return unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	}
	return nil
}

// mounted tells that something is mounted on a path.
func mounted(path string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, err
}

// NodeUnpublishVolume takes a volume away from where a pod used it.
func (d *Driver) NodeUnpublishVolume(_ context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	switch {
	case r.GetVolumeId() == "":
		return nil, missing("the volume's ID")
	case r.GetTargetPath() == "":
		return nil, missing("the target path")
	}
	volume, err := d.store.Get(store.Volumes, r.GetVolumeId())
	if err != nil {
		return nil, answer(err)
	}
	there, err := mounted(r.GetTargetPath())
	if err == nil && there {
		err = unix.Unmount(r.GetTargetPath(), unix.UMOUNT_NOFOLLOW)
	}
	if err != nil {
		return nil, answer(fmt.Errorf("unmount %s: %w", r.GetTargetPath(), err))
	}
	if err := os.Remove(r.GetTargetPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, answer(err)
	}
	if volume.Block {
		d.loops.release(volume.ID)
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}
