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

// startTime is how long a start that goes as it should may take before the status says Starting. API times have whole seconds,
// so that up to one of them is lost.
const startTime = 4 * time.Second

// gateClosed is the reason of a VMI that is not ready because its pod's readiness gate is closed.
const gateClosed = "ReadinessGatesNotReady"

// showStatus derives the status from everything that is known by now.
func (r *Reconciler) showStatus(_ context.Context, p *pass) error {
	vm, s := p.vm, &p.vm.Status
	if wait := max(r.unsettled(p), r.almostGone(p)); wait > 0 {
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
	if wait := max(r.starting(p), r.moving(p)); wait > 0 {
		p.hold = true
		p.again(wait)
	}
	return nil
}

// starting tells how long the status of a VM that starts as it should may wait for Running, which is one write less. A request
// that was taken is written down at once: as long as it is queued there is no place for another.
func (r *Reconciler) starting(p *pass) time.Duration {
	before, now := &p.before.Status, &p.vm.Status
	quiet := before.PrintableStatus == "" || before.PrintableStatus == v1.VirtualMachineStatusStopped
	if p.vmi == nil || p.failure != nil || !quiet || now.PrintableStatus != v1.VirtualMachineStatusStarting ||
		len(before.StateChangeRequests) != len(now.StateChangeRequests) {
		return 0
	}
	return startTime - r.Now().Sub(p.vmi.CreationTimestamp.Time)
}

// moveTime is how long a guest may be on its way to another node before its VM's status says Migrating.
const moveTime = 3 * time.Second

// moving tells how long the status of a VM whose guest moves may wait for its arrival, which takes two writes less: most are there
// sooner. The migration's own object tells of every one.
func (r *Reconciler) moving(p *pass) time.Duration {
	before, now := &p.before.Status, &p.vm.Status
	if p.vmi == nil || p.failure != nil || before.PrintableStatus != v1.VirtualMachineStatusRunning ||
		now.PrintableStatus != v1.VirtualMachineStatusMigrating || len(before.StateChangeRequests) != len(now.StateChangeRequests) {
		return 0
	}
	return moveTime - r.Now().Sub(p.vmi.Status.MigrationState.StartTimestamp.Time)
}

// unsettled tells how long to wait for the readiness that follows from what the guest does: it has just begun to run, was
// paused or was resumed.
func (r *Reconciler) unsettled(p *pass) time.Duration {
	if p.vmi == nil || p.going || !p.vmi.IsRunning() || !readinessLags(p.vmi) {
		r.remember(p.key, func(m *memory) { m.lagsSince = time.Time{} })
		return 0
	}
	var since time.Time
	r.remember(p.key, func(m *memory) {
		if m.lagsSince.IsZero() {
			m.lagsSince = r.Now()
		}
		since = m.lagsSince
	})
	return settle - r.Now().Sub(since)
}

func readinessLags(vmi *v1.VirtualMachineInstance) bool {
	if condition.Of(vmi, v1.VirtualMachineInstanceReady) == nil {
		return true
	}
	reason := condition.Reason(vmi, v1.VirtualMachineInstanceReady)
	if condition.Is(vmi, v1.VirtualMachineInstancePaused, corev1.ConditionTrue) {
		return reason == ""
	}
	return reason == v1.GuestNotRunningReason || reason == gateClosed
}

// almostGone tells how long to wait for the VMI of a stopped VM to go: its guest has ended, and one write tells that it is gone.
func (r *Reconciler) almostGone(p *pass) time.Duration {
	if p.vmi == nil || !p.vmi.IsFinal() || p.vmi.DeletionTimestamp == nil || p.vm.DeletionTimestamp != nil {
		return 0
	}
	return patience - r.Now().Sub(p.vmi.DeletionTimestamp.Time)
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
