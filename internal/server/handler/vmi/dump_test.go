package vmi

import (
	"context"
	"errors"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/libvirt/wire"
	"virtctl/internal/server/handler/launchers"
)

// Memory of many GiB takes minutes to write: meanwhile nothing waits for it, and its end is told once.
func TestDumpIsWrittenInTheBackground(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	now := func() time.Time { at = at.Add(time.Second); return at }
	name := dumpName{"memory", "uid"}
	for _, failure := range []error{nil, errors.New("no space left on device")} {
		slow := make(chan struct{})
		told := make(chan struct{})
		d := beginDump(t.Context(), name, now, func(context.Context) error { <-slow; return failure }, func() { close(told) })
		if d.over() {
			t.Fatal("over before it was written")
		}
		close(slow)
		<-told
		p := d.plug()
		want := v1.MemoryDumpVolumeCompleted
		if failure != nil {
			want = v1.MemoryDumpVolumeFailed
		}
		if !d.over() || p.Phase != want || p.Ended.Sub(p.Began) != time.Second {
			t.Errorf("%v: %+v", failure, p)
		}
	}
}

// A VM whose memory is being dumped can be paused and stopped like any other.
func TestDumpHoldsUpNothing(t *testing.T) {
	w := newWorld(t, newVMI(), script{HoldDump: true})
	vmi := w.until("running", running)
	ref := launchers.Ref{
		Pod: types.NamespacedName{Namespace: "default", Name: "virt-launcher-web-x"}, PodUID: podUID,
		VMI: types.NamespacedName{Namespace: "default", Name: "web"}, VMIUID: vmiUID,
	}
	s := &session{r: w.r, ref: ref, vmi: vmi, launcher: w.r.Launchers.Ensure(ref), mem: &remembered{}}
	s.view = s.launcher.View()
	written := make(chan error, 1)
	s.mem.dump = beginDump(t.Context(), dumpName{"memory", "uid"}, time.Now, func(ctx context.Context) error {
		return s.view.Peer.Client.Dump(ctx, "/hotplug/memory")
	}, func() { written <- nil })
	v := &v1.VolumeStatus{
		Name: "memory", Phase: v1.MemoryDumpVolumeInProgress, HotplugVolume: &v1.HotplugVolumeStatus{AttachPodUID: "uid"},
		MemoryDumpVolume: &v1.DomainMemoryDumpInfo{StartTimestamp: &metav1.Time{}},
	}
	if p, err := s.dump(t.Context(), v); err != nil || p.Phase != "" {
		t.Errorf("while it is written: %+v, %v", p, err)
	}
	if _, err := s.view.Peer.Client.Suspend(t.Context()); err != nil {
		t.Errorf("pausing meanwhile: %v", err)
	}
	if _, err := s.view.Peer.Client.Destroy(t.Context()); err != nil { // lets go of the dump
		t.Error(err)
	}
	<-written
	if p, err := s.dump(t.Context(), v); err != nil || p.Phase != v1.MemoryDumpVolumeFailed || wire.CodeOf(s.mem.dump.err) != wire.CodeConflict {
		t.Errorf("at its end: %+v, %v", p, err)
	}
}
