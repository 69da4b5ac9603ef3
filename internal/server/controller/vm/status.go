package vm

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/server/controller/condition"
)

// settle is how long a status may wait for what follows at once: a guest that runs is ready some milliseconds later, and one
// write tells both.
const settle = time.Second

// showStatus derives the status from everything that is known by now.
func (r *Reconciler) showStatus(_ context.Context, p *pass) error {
	vm, s := p.vm, &p.vm.Status
	if wait := r.unsettled(p); wait > 0 && !p.going {
		p.hold = true
		p.again(wait)
		return nil
	}
	s.Created = p.vmi != nil
	mirror(vm, p.vmi, r.Now())
	s.Ready = vmCondition(vm, v1.VirtualMachineReady).Status == corev1.ConditionTrue
	// The strategy counts as taken up once a VMI runs under it: until then RerunOnFailure still has its first start to do.
	if p.vmi != nil || p.strategy != v1.RunStrategyRerunOnFailure {
		s.RunStrategy = p.strategy
	}
	if p.failure != nil {
		setVMCondition(vm, v1.VirtualMachineCondition{
			Type: v1.VirtualMachineFailure, Status: corev1.ConditionTrue, Reason: p.failure.reason, Message: p.failure.message,
		}, r.Now())
	} else {
		removeVMCondition(vm, v1.VirtualMachineFailure)
	}
	s.VolumeSnapshotStatuses = snapshotStatuses(vm)
	s.PrintableStatus = printable(r.scene(p))
	return nil
}

// unsettled tells how long to wait for the readiness of a guest that has just begun to run.
func (r *Reconciler) unsettled(p *pass) time.Duration {
	if p.vmi == nil || !p.vmi.IsRunning() || condition.Reason(p.vmi, v1.VirtualMachineInstanceReady) != v1.GuestNotRunningReason {
		r.remember(p.key, func(m *memory) { m.runsSince = time.Time{} })
		return 0
	}
	var since time.Time
	r.remember(p.key, func(m *memory) {
		if m.runsSince.IsZero() {
			m.runsSince = r.Now()
		}
		since = m.runsSince
	})
	return settle - r.Now().Sub(since)
}

// snapshotStatuses says of each volume whether a snapshot can hold it.
func snapshotStatuses(vm *v1.VirtualMachine) []v1.VolumeSnapshotStatus {
	if vm.Spec.Template == nil {
		return nil
	}
	var out []v1.VolumeSnapshotStatus
	for i := range vm.Spec.Template.Spec.Volumes {
		v := &vm.Spec.Template.Spec.Volumes[i]
		status := v1.VolumeSnapshotStatus{Name: v.Name}
		switch {
		case v.PersistentVolumeClaim != nil, v.DataVolume != nil:
			status.Reason = fmt.Sprintf("No VolumeSnapshotClass: Volume snapshots are not configured for this StorageClass [%s]", v.Name)
		default:
			status.Reason = fmt.Sprintf("Snapshot is not supported for this volumeSource type [%s]", v.Name)
		}
		out = append(out, status)
	}
	slices.SortFunc(out, func(a, b v1.VolumeSnapshotStatus) int { return strings.Compare(a.Name, b.Name) })
	return out
}
