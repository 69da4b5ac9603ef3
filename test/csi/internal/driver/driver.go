// Package driver is a CSI driver for tests: its volumes are directories and loop devices of one node. It makes, clones, snapshots and grows
// them for real, and refuses what it is told to refuse.
package driver

import (
	"context"
	"errors"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"virtctl/test/csi/internal/store"
)

// Name is the driver's, also in storage classes and snapshot classes.
const Name = "directories.csi.virtctl.io"

// topologyKey labels the node that has the volumes.
const topologyKey = Name + "/node"

// version is what the driver says it is; nobody asks.
const version = "1"

// Driver serves all three services of CSI.
type Driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedControllerServer
	csi.UnimplementedNodeServer

	node  string
	store *store.Store
	loops *loops
}

// New gives the driver of a node, with its volumes in a directory.
func New(node, dir string) (*Driver, error) {
	s, err := store.Open(dir)
	if err != nil {
		return nil, err
	}
	return &Driver{node: node, store: s, loops: newLoops()}, nil
}

// GetPluginInfo tells who this is.
func (d *Driver) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: Name, VendorVersion: version}, nil
}

// GetPluginCapabilities tells what kind of driver this is.
func (d *Driver) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	service := func(t csi.PluginCapability_Service_Type) *csi.PluginCapability {
		return &csi.PluginCapability{Type: &csi.PluginCapability_Service_{Service: &csi.PluginCapability_Service{Type: t}}}
	}
	return &csi.GetPluginCapabilitiesResponse{Capabilities: []*csi.PluginCapability{
		service(csi.PluginCapability_Service_CONTROLLER_SERVICE),
		service(csi.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS),
		{Type: &csi.PluginCapability_VolumeExpansion_{VolumeExpansion: &csi.PluginCapability_VolumeExpansion{
			Type: csi.PluginCapability_VolumeExpansion_ONLINE,
		}}},
	}}, nil
}

// Probe says that the driver works.
func (d *Driver) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(true)}, nil
}

// answer gives an error the code that CSI has for it.
func answer(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrNotFound):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, store.ErrExists):
		return status.Error(codes.AlreadyExists, err.Error())
	case errors.Is(err, store.ErrSmall):
		return status.Error(codes.OutOfRange, err.Error())
	}
	return status.Error(codes.Internal, err.Error())
}

// missing refuses a call without something it needs.
func missing(what string) error { return status.Errorf(codes.InvalidArgument, "%s is missing", what) }
