package migration

import (
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
)

// handoverTime is how long the nodes may take from the target's launcher to the guest's departure before the phases between are worth
// writes of their own. Sooner, one write tells that it runs, with the times of all phases.
const handoverTime = 2 * time.Second

// settling tells how long the status may wait for the nodes.
func (r *Reconciler) settling(p *pass) time.Duration {
	switch p.migration.Status.Phase {
	case v1.MigrationScheduled, v1.MigrationPreparingTarget, v1.MigrationTargetReady:
	default:
		return 0
	}
	if p.before.Status.Phase != v1.MigrationScheduling || p.migration.DeletionTimestamp != nil ||
		!equality.Semantic.DeepEqual(p.before.Status.Conditions, p.migration.Status.Conditions) {
		return 0
	}
	key := types.NamespacedName{Namespace: p.migration.Namespace, Name: p.migration.Name}
	return handoverTime - r.Now().Sub(r.since(key, v1.MigrationScheduled))
}

// since is when a migration entered a phase: now, unless an earlier pass that wrote nothing has seen it.
func (r *Reconciler) since(key types.NamespacedName, phase v1.VirtualMachineInstanceMigrationPhase) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	times := r.entered[key]
	if times == nil {
		times = map[v1.VirtualMachineInstanceMigrationPhase]time.Time{}
		r.entered[key] = times
	}
	if _, known := times[phase]; !known {
		times[phase] = r.Now()
	}
	return times[phase]
}

func (r *Reconciler) forget(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.entered, key)
	delete(r.noPlace, key)
}
