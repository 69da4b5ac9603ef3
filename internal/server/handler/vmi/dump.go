package vmi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	"virtctl/internal/libvirt/domain"
	"virtctl/internal/server/handler/status"
)

// dumpName tells one memory dump of a VM from another: each has an attachment pod of its own.
type dumpName struct {
	volume     string
	attachment types.UID
}

// dumping is a memory dump that is under way or has ended. The guest's memory takes as long to write as the storage needs, and nothing else
// about the VM waits for that.
type dumping struct {
	name         dumpName
	done         chan struct{}
	began, ended time.Time
	err          error
}

// beginDump writes in the background, and tells when it has ended.
func beginDump(ctx context.Context, name dumpName, now func() time.Time, write func(context.Context) error, ended func()) *dumping {
	d := &dumping{name: name, done: make(chan struct{}), began: now()}
	go func() {
		d.err = write(ctx)
		d.ended = now()
		close(d.done)
		ended()
	}()
	return d
}

func (d *dumping) over() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

// plug is what the volume's status says of a dump that has ended. A failure is final: the guest has moved on, and its user decides
// about another.
func (d *dumping) plug() status.Plug {
	p := status.Plug{
		Phase: v1.MemoryDumpVolumeCompleted, Reason: reasonDumped, Began: d.began, Ended: d.ended,
		Message: fmt.Sprintf("Memory dump to volume %s has completed successfully", d.name.volume),
	}
	if d.err != nil {
		p.Phase, p.Reason, p.Message = v1.MemoryDumpVolumeFailed, reasonDumpFailed, status.Bounded(d.err.Error())
	}
	return p
}

// dump writes the guest's memory to the volume. What it comes to is remembered until the status says it: a write that meets another is
// made again, the dump is not.
func (s *session) dump(ctx context.Context, v *v1.VolumeStatus) (status.Plug, error) {
	name := dumpName{volume: v.Name, attachment: v.HotplugVolume.AttachPodUID}
	if d := s.mem.dump; d != nil && d.name == name && d.over() {
		p := d.plug()
		ctrl.LoggerFrom(ctx).Info("memory dump", "vmi", s.ref.VMI, "volume", v.Name, "phase", p.Phase, "reason", p.Message)
		return p, nil
	} else if d != nil && !d.over() {
		return status.Plug{}, nil // its end brings us back
	}
	if v.Phase != v1.MemoryDumpVolumeInProgress {
		o := s.observed(nil)
		o.Plugs = map[string]status.Plug{v.Name: {Phase: v1.MemoryDumpVolumeInProgress, Reason: reasonDumping, Message: "Memory dump Volume is attached, getting memory dump"}}
		if err := s.write(ctx, o, nil); err != nil {
			return status.Plug{}, err
		}
	}
	pod, client := s.ref.Pod, s.view.Peer.Client
	brought := s.bring(ctx, v.Name, v.HotplugVolume.AttachPodUID)
	if errors.Is(brought, errNotHeld) {
		return status.Plug{}, nil
	}
	s.mem.dump = beginDump(s.r.Background, name, s.r.Now, func(ctx context.Context) error {
		if brought != nil {
			return brought
		}
		return client.Dump(ctx, domain.HotplugFile(name.volume))
	}, func() { s.r.Changed(pod) })
	return status.Plug{}, nil
}
