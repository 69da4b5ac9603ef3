package driver

import (
	"context"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"virtctl/test/csi/internal/store"
)

// Sizes of volumes.
const (
	mebibyte    = 1 << 20
	defaultSize = 64 * mebibyte
	// mostBytes is the largest volume: what is asked of a driver may be absurd.
	mostBytes = 1 << 40
)

// refuseClones is the parameter of a storage class whose volumes cannot be made from others; its value is the message.
const refuseClones = "refuseClones"

// ControllerGetCapabilities tells what can be asked for.
func (d *Driver) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	out := &csi.ControllerGetCapabilitiesResponse{}
	for _, t := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS,
		csi.ControllerServiceCapability_RPC_CLONE_VOLUME,
		csi.ControllerServiceCapability_RPC_EXPAND_VOLUME,
	} {
		out.Capabilities = append(out.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: t}},
		})
	}
	return out, nil
}

// CreateVolume makes a volume, empty or from another one or a snapshot.
func (d *Driver) CreateVolume(ctx context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if r.GetName() == "" {
		return nil, missing("the volume's name")
	}
	block, err := isBlock(r.GetVolumeCapabilities())
	if err != nil {
		return nil, err
	}
	if !d.here(r.GetAccessibilityRequirements()) {
		return nil, status.Errorf(codes.ResourceExhausted, "volumes are on node %s only", d.node)
	}
	size, err := d.size(r.GetCapacityRange())
	if err != nil {
		return nil, err
	}
	from, err := d.origin(r.GetVolumeContentSource(), block)
	if err != nil {
		return nil, err
	}
	if why := r.GetParameters()[refuseClones]; why != "" && from.ID != "" {
		return nil, status.Error(codes.InvalidArgument, why)
	}
	made, err := d.store.Make(ctx, store.Volumes, store.Record{Name: r.GetName(), Size: size, Block: block}, from)
	if err != nil {
		return nil, answer(err)
	}
	if limit := r.GetCapacityRange().GetLimitBytes(); limit > 0 && made.Size > limit {
		return nil, status.Errorf(codes.AlreadyExists, "volume %q has %d bytes already", r.GetName(), made.Size)
	}
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{
		VolumeId: made.ID, CapacityBytes: made.Size, ContentSource: r.GetVolumeContentSource(),
		AccessibleTopology: []*csi.Topology{{Segments: map[string]string{topologyKey: d.node}}},
	}}, nil
}

// isBlock tells whether a volume is to be a device. What one node cannot give is refused.
func isBlock(wishes []*csi.VolumeCapability) (bool, error) {
	if len(wishes) == 0 {
		return false, missing("what the volume is for")
	}
	block := wishes[0].GetBlock() != nil
	for _, w := range wishes {
		if (w.GetBlock() != nil) != block {
			return false, status.Error(codes.InvalidArgument, "a volume is a device or has files, not both")
		}
	}
	return block, nil
}

// here tells that a volume may be on our node.
func (d *Driver) here(r *csi.TopologyRequirement) bool {
	at := func(t *csi.Topology) bool {
		node, said := t.GetSegments()[topologyKey]
		return !said || node == d.node
	}
	return len(r.GetRequisite()) == 0 || slices.ContainsFunc(r.GetRequisite(), at)
}

func (d *Driver) size(r *csi.CapacityRange) (int64, error) {
	size := r.GetRequiredBytes()
	if size == 0 {
		size = defaultSize
	}
	size = (size + mebibyte - 1) / mebibyte * mebibyte
	if limit := r.GetLimitBytes(); size > mostBytes || limit > 0 && size > limit {
		return 0, status.Errorf(codes.OutOfRange, "%d bytes cannot be had", size)
	}
	return size, nil
}

// origin is what a volume shall be made from.
func (d *Driver) origin(s *csi.VolumeContentSource, block bool) (store.Origin, error) {
	var from store.Origin
	switch {
	case s.GetVolume() != nil:
		from = store.Origin{Kind: store.Volumes, ID: s.GetVolume().GetVolumeId()}
	case s.GetSnapshot() != nil:
		from = store.Origin{Kind: store.Snapshots, ID: s.GetSnapshot().GetSnapshotId()}
	default:
		return from, nil
	}
	have, err := d.store.Get(from.Kind, from.ID)
	if err == nil && have.Block != block {
		return from, status.Error(codes.InvalidArgument, "a device cannot be made from files, nor files from a device")
	}
	return from, answer(err)
}

// DeleteVolume removes a volume.
func (d *Driver) DeleteVolume(_ context.Context, r *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if r.GetVolumeId() == "" {
		return nil, missing("the volume's ID")
	}
	return &csi.DeleteVolumeResponse{}, answer(d.store.Remove(store.Volumes, r.GetVolumeId()))
}

// ValidateVolumeCapabilities tells whether a volume is what somebody takes it for.
func (d *Driver) ValidateVolumeCapabilities(_ context.Context, r *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if r.GetVolumeId() == "" {
		return nil, missing("the volume's ID")
	}
	block, err := isBlock(r.GetVolumeCapabilities())
	if err != nil {
		return nil, err
	}
	have, err := d.store.Get(store.Volumes, r.GetVolumeId())
	if err != nil {
		return nil, answer(err)
	}
	if have.Block != block {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: "it is of the other kind"}, nil
	}
	return &csi.ValidateVolumeCapabilitiesResponse{
		Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{VolumeCapabilities: r.GetVolumeCapabilities()},
	}, nil
}

// ControllerExpandVolume makes a volume larger. Nothing is left to do on the node: directories have no size, and devices are told here.
func (d *Driver) ControllerExpandVolume(_ context.Context, r *csi.ControllerExpandVolumeRequest) (*csi.ControllerExpandVolumeResponse, error) {
	if r.GetVolumeId() == "" {
		return nil, missing("the volume's ID")
	}
	if r.GetCapacityRange() == nil {
		return nil, missing("the size")
	}
	size, err := d.size(r.GetCapacityRange())
	if err != nil {
		return nil, err
	}
	grown, err := d.store.Grow(r.GetVolumeId(), size)
	if err != nil {
		return nil, answer(err)
	}
	if err := d.loops.grow(grown.ID); err != nil {
		return nil, answer(err)
	}
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: grown.Size}, nil
}
