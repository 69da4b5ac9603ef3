package vmi

import (
	"context"
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	"virtctl/internal/libvirt/domain"
	"virtctl/internal/libvirt/wire"
)

// growStep is the least by which a disk grows with its claim.
const growStep = 1 << 20

// growDisks lets the guest have what its claims have grown by. libvirt is asked for the disks' sizes only when a claim's has changed
// since they were last compared.
func (s *session) growDisks(ctx context.Context) error {
	if s.view.Peer == nil || s.mem.domain == nil || s.view.State.State != wire.StateRunning {
		return nil
	}
	sizes := s.claimSizes()
	if maps.Equal(sizes, s.mem.sizes) {
		return nil
	}
	stats, err := s.view.Peer.Client.Stats(ctx)
	if err != nil {
		return fmt.Errorf("read the sizes of the disks of %s: %w", s.ref.VMI, err)
	}
	block := s.blockVolumes()
	maps.Copy(block, domain.BlockVolumes(s.vmi))
	for volume, size := range sizes {
		target := s.mem.domain.Targets[volume]
		have, known := diskSize(stats, target)
		if target == "" || !known || size-have < growStep {
			continue
		}
		request := wire.ResizeDiskRequest{Target: target, Bytes: uint64(size)}
		if block[volume] {
			request.Bytes = 0
		}
		if err := s.view.Peer.Client.ResizeDisk(ctx, request); err != nil {
			return fmt.Errorf("let disk %s grow: %w", volume, err)
		}
		ctrl.LoggerFrom(ctx).Info("disk has grown", "vmi", s.ref.VMI, "volume", volume, "bytes", size)
	}
	s.mem.sizes = sizes
	return nil
}

// claimSizes is how large the disks of the object's claims shall be.
func (s *session) claimSizes() map[string]int64 {
	sizes := map[string]int64{}
	for i := range s.vmi.Status.VolumeStatus {
		v := &s.vmi.Status.VolumeStatus[i]
		info := v.PersistentVolumeClaimInfo
		if info == nil || v.MemoryDumpVolume != nil || v.Target == "" {
			continue
		}
		sizes[v.Name] = domain.ClaimImageSize(info)
		if info.VolumeMode != nil && *info.VolumeMode == corev1.PersistentVolumeBlock {
			capacity := info.Capacity[corev1.ResourceStorage]
			sizes[v.Name] = capacity.Value()
		}
	}
	return sizes
}

// diskSize finds a disk's size among libvirt's counters.
func diskSize(stats wire.Stats, target string) (int64, bool) {
	for key, name := range stats.Names {
		prefix, isName := strings.CutSuffix(key, ".name")
		if !isName || name != target || !strings.HasPrefix(key, "block.") {
			continue
		}
		size, ok := stats.Values[prefix+".capacity"]
		return int64(size), ok
	}
	return 0, false
}
