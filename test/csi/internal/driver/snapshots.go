package driver

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"virtctl/test/csi/internal/store"
)

// refuse is the parameter of a snapshot class that cannot make any; its value is the message.
const refuse = "refuse"

// CreateSnapshot copies a volume.
func (d *Driver) CreateSnapshot(ctx context.Context, r *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	switch {
	case r.GetName() == "":
		return nil, missing("the snapshot's name")
	case r.GetSourceVolumeId() == "":
		return nil, missing("the volume's ID")
	case r.GetParameters()[refuse] != "":
		// Not one of the codes after which a snapshot may yet come to be.
		return nil, status.Error(codes.FailedPrecondition, r.GetParameters()[refuse])
	}
	volume, err := d.store.Get(store.Volumes, r.GetSourceVolumeId())
	if err != nil {
		return nil, answer(err)
	}
	made, err := d.store.Make(ctx, store.Snapshots, store.Record{Name: r.GetName(), Size: volume.Size, Block: volume.Block, Created: time.Now()},
		store.Origin{Kind: store.Volumes, ID: volume.ID})
	if err != nil {
		return nil, answer(err)
	}
	return &csi.CreateSnapshotResponse{Snapshot: told(made)}, nil
}

func told(r store.Record) *csi.Snapshot {
	return &csi.Snapshot{
		SnapshotId: r.ID, SourceVolumeId: r.From, SizeBytes: r.Size, CreationTime: timestamppb.New(r.Created), ReadyToUse: true,
	}
}

// DeleteSnapshot removes a snapshot.
func (d *Driver) DeleteSnapshot(_ context.Context, r *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	if r.GetSnapshotId() == "" {
		return nil, missing("the snapshot's ID")
	}
	return &csi.DeleteSnapshotResponse{}, answer(d.store.Remove(store.Snapshots, r.GetSnapshotId()))
}

// ListSnapshots tells of all snapshots, page by page, or those of one volume, or one.
func (d *Driver) ListSnapshots(_ context.Context, r *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	all, err := d.store.List(store.Snapshots)
	if err != nil {
		return nil, answer(err)
	}
	all = slices.DeleteFunc(all, func(s store.Record) bool {
		return r.GetSnapshotId() != "" && s.ID != r.GetSnapshotId() || r.GetSourceVolumeId() != "" && s.From != r.GetSourceVolumeId()
	})
	first := 0
	if token := r.GetStartingToken(); token != "" {
		if first, err = strconv.Atoi(token); err != nil || first < 0 || first > len(all) {
			return nil, status.Errorf(codes.Aborted, "no page begins at %q", token)
		}
	}
	last := len(all)
	out := &csi.ListSnapshotsResponse{}
	if most := int(r.GetMaxEntries()); most > 0 && first+most < last {
		last = first + most
		out.NextToken = strconv.Itoa(last)
	}
	for _, s := range all[first:last] {
		out.Entries = append(out.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: told(s)})
	}
	return out, nil
}
