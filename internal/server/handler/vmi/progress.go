package vmi

import (
	"context"
	"encoding/json"
	"fmt"

	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/libvirt/wire"
	"virtctl/internal/migrationprogress"
)

// noteProgress tells how far the guest has come, if that is worth a write, and how it travels.
func (s *session) noteProgress(ctx context.Context) error {
	mode := s.mem.run.Mode()
	last, due := s.mem.run.Due()
	if !due && s.migrating().Mode == mode {
		return nil
	}
	return s.writeProgress(ctx, s.progress(last), func(m *v1.VirtualMachineInstanceMigrationState) { m.Mode = mode })
}

func (s *session) progress(p wire.MigrationProgress) *migrationprogress.Progress {
	return &migrationprogress.Progress{
		Migration: s.migrating().MigrationUID, Phase: p.Phase, At: s.r.Now().UTC(),
		ElapsedMillis: p.ElapsedMillis, TotalBytes: p.TotalBytes, ProcessedBytes: p.ProcessedBytes, RemainingBytes: p.RemainingBytes,
		DirtyRateBytes: p.DirtyRateBytes, TransferRateBytes: p.TransferRateBytes, DowntimeMillis: p.DowntimeMillis,
		ThrottlePercent: p.ThrottlePercent,
	}
}

// account is how far a migration that has ended on this node had come, nil if it had not begun.
func (s *session) account() *migrationprogress.Progress {
	if s.mem.run == nil {
		return nil
	}
	last := s.mem.run.Last()
	if last.TotalBytes == 0 {
		return nil
	}
	return s.progress(last)
}

// arrival is the account of the migration that brought the guest here; nil if the launcher cannot give one.
func (s *session) arrival(ctx context.Context) *migrationprogress.Progress {
	if s.view.Peer == nil {
		return nil
	}
	p, err := s.view.Peer.Client.Arrival(ctx)
	if err != nil || p.TotalBytes == 0 {
		return nil // an older launcher, a guest that ended at once, or libvirt has not drawn up the account yet
	}
	return s.progress(p)
}

// writeProgress is writeMigration that tells the progress too.
func (s *session) writeProgress(ctx context.Context, p *migrationprogress.Progress, change func(*v1.VirtualMachineInstanceMigrationState), event ...*eventOf) error {
	uid := s.migrating().MigrationUID
	var told *eventOf
	if len(event) > 0 {
		told = event[0]
	}
	return s.patch(ctx, func(vmi *v1.VirtualMachineInstance) ([]byte, error) {
		if !under(vmi, uid) {
			return nil, nil
		}
		next := vmi.Status.DeepCopy()
		change(next.MigrationState)
		return migrationPatch(vmi, next, nil, p)
	}, told)
}

// annotate gives the operations that write the progress into the object.
func annotate(vmi *v1.VirtualMachineInstance, p *migrationprogress.Progress) ([]operation, error) {
	if p == nil {
		return nil, nil
	}
	raw, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode the migration's progress: %w", err)
	}
	if len(vmi.Annotations) == 0 {
		return []operation{
			{"test", "/metadata/annotations", nil}, {"add", "/metadata/annotations", map[string]string{migrationprogress.Annotation: string(raw)}},
		}, nil
	}
	return []operation{{"add", "/metadata/annotations/" + pointer(migrationprogress.Annotation), string(raw)}}, nil
}
