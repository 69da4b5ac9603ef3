package migration

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Reasons of events and of the condition that tells why a migration failed.
const (
	reasonSucceeded = "SuccessfulMigration"
	reasonFailed    = "FailedMigration"
	reasonBackoff   = "MigrationBackoff"
	reasonNoPlace   = "migrationTargetPodUnschedulable"
)

// How long a target pod may take, unless an annotation of the migration says something else.
const (
	unschedulableTime = 5 * time.Minute
	pendingTime       = 15 * time.Minute
	// retryAdmission is when a migration that waits for something without events looks again.
	retryAdmission = 5 * time.Second
	// retryQuota is when a target pod is tried again that the namespace's quota had no room for.
	retryQuota = 15 * time.Second
)

func (r *Reconciler) advance(ctx context.Context, p *pass) error {
	if p.migration.IsFinal() {
		return nil
	}
	if why := over(p); why != "" {
		r.fail(p, why)
		return nil
	}
	if p.migration.DeletionTimestamp != nil {
		return r.abort(ctx, p)
	}
	switch p.migration.Status.Phase {
	case v1.MigrationPhaseUnset:
		return r.accept(ctx, p)
	case v1.MigrationPending:
		return r.admit(ctx, p)
	case v1.MigrationScheduling:
		return r.schedule(p)
	case v1.MigrationScheduled:
		return r.handOver(ctx, p)
	}
	return r.follow(p)
}

// over says why a migration can no longer succeed.
func over(p *pass) string {
	state := p.state()
	switch {
	case p.vmi == nil:
		return "the virtual machine instance does not exist"
	case state != nil && state.Failed:
		return "the migration failed: " + state.FailureReason
	case p.vmi.IsFinal():
		return "the virtual machine instance has ended"
	case p.vmi.DeletionTimestamp != nil && (state == nil || !state.Completed):
		return "the virtual machine instance is being stopped"
	case state != nil && state.Completed:
		return ""
	case p.target != nil && (p.target.DeletionTimestamp != nil || p.target.Status.Phase == corev1.PodFailed || p.target.Status.Phase == corev1.PodSucceeded):
		return "the target pod " + p.target.Name + " has ended"
	case p.migration.Status.Phase == v1.MigrationPreparingTarget && p.target == nil:
		return "the target pod is gone"
	}
	return ""
}

func (r *Reconciler) fail(p *pass, why string) {
	r.enter(p, v1.MigrationFailed)
	r.event(p.migration, corev1.EventTypeWarning, reasonFailed, why)
	setCondition(p.migration, v1.VirtualMachineInstanceMigrationConditionType("Failed"), corev1.ConditionTrue, reasonFailed, why, r.Now())
}

// why is what fail said.
func why(m *v1.VirtualMachineInstanceMigration) string {
	for _, c := range m.Status.Conditions {
		if c.Reason == reasonFailed {
			return c.Message
		}
	}
	return "the migration failed"
}

func setCondition(m *v1.VirtualMachineInstanceMigration, kind v1.VirtualMachineInstanceMigrationConditionType, status corev1.ConditionStatus, reason, message string, now time.Time) {
	for i := range m.Status.Conditions {
		if c := &m.Status.Conditions[i]; c.Type == kind {
			if c.Status != status {
				c.LastTransitionTime = metav1.NewTime(now)
			}
			c.Status, c.Reason, c.Message = status, reason, message
			return
		}
	}
	m.Status.Conditions = append(m.Status.Conditions, v1.VirtualMachineInstanceMigrationCondition{
		Type: kind, Status: status, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(now),
	})
}

// accept refuses what can never work.
func (r *Reconciler) accept(ctx context.Context, p *pass) error {
	others, err := Unfinished(ctx, r.Client, p.migration.Namespace)
	if err != nil {
		return err
	}
	for _, other := range others {
		if other.Spec.VMIName == p.migration.Spec.VMIName && other.UID != p.migration.UID && other.Status.Phase != v1.MigrationPhaseUnset {
			r.fail(p, "migration "+other.Name+" of the same virtual machine instance is under way")
			return nil
		}
	}
	r.enter(p, v1.MigrationPending)
	return nil
}

// admit lets a migration begin when there is room for it: in the cluster, and on the node it leaves.
func (r *Reconciler) admit(ctx context.Context, p *pass) error {
	if p.target != nil {
		r.enter(p, v1.MigrationScheduling)
		return nil
	}
	if p.vmi.Status.Phase != v1.Running {
		return nil // it waits for the guest (contract), whose start brings us back; one that has ended has failed the migration
	}
	if why := migratable(p.vmi, r.Config.Get().Migration.UnsafeOverride); why != "" {
		r.fail(p, why)
		return nil
	}
	if p.source == nil {
		return nil // the cache is still to learn of it
	}
	mine, err := r.turn(ctx, p)
	if err != nil || !mine {
		return err
	}
	if err := r.createTarget(ctx, p); err != nil || p.after > 0 || p.migration.IsFinal() {
		return err
	}
	r.enter(p, v1.MigrationScheduling)
	return nil
}

func migratable(vmi *v1.VirtualMachineInstance, override bool) string {
	for _, c := range vmi.Status.Conditions {
		if c.Type == v1.VirtualMachineInstanceIsMigratable && c.Status == corev1.ConditionFalse && !override {
			return fmt.Sprintf("the virtual machine instance cannot migrate: %s: %s", c.Reason, c.Message)
		}
	}
	return ""
}

// turn tells whether the migration may begin. Otherwise another one's end brings us back, or the end of its pause.
func (r *Reconciler) turn(ctx context.Context, p *pass) (bool, error) {
	if automatic(p.migration) {
		all, err := list(ctx, r.Client, p.migration.Namespace)
		if err != nil {
			return false, err
		}
		if until := pause(all, p.migration); until.After(r.Now()) {
			p.after = until.Sub(r.Now())
			if p.before.Status.Phase != p.migration.Status.Phase { // told once
				r.event(p.vmi, corev1.EventTypeWarning, reasonBackoff, fmt.Sprintf(
					"earlier migrations of %s failed; trying again in %s", p.migration.Spec.VMIName, p.after.Round(time.Second)))
			}
			return false, nil
		}
	}
	next, err := r.next(ctx)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(next, func(m *migration) bool { return m.UID == p.migration.UID }), nil
}

// schedule waits for the target's launcher to run.
func (r *Reconciler) schedule(p *pass) error {
	if p.target == nil {
		return nil // the cache is still to learn of it
	}
	if launcherRuns(p.target) {
		r.enter(p, v1.MigrationScheduled)
		return nil
	}
	limit, why := seconds(p.migration, v1.MigrationPendingPodTimeoutSecondsAnnotation, pendingTime), "the target pod did not start"
	for _, c := range p.target.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			limit = seconds(p.migration, v1.MigrationUnschedulablePodTimeoutSecondsAnnotation, unschedulableTime)
			why = "no node can take the target pod: " + c.Message
			r.tellNoPlace(p, why)
		}
	}
	left := limit - r.Now().Sub(entered(p.migration))
	if left <= 0 {
		r.fail(p, fmt.Sprintf("%s within %s", why, limit))
		return nil
	}
	p.after = left
	return nil
}

// seconds is a time that an annotation of the migration may set.
func seconds(m *v1.VirtualMachineInstanceMigration, annotation string, otherwise time.Duration) time.Duration {
	n, err := strconv.ParseUint(m.Annotations[annotation], 10, 31)
	if err != nil {
		return otherwise
	}
	return time.Duration(n) * time.Second
}

// tellNoPlace tells once that the target pod waits for a node.
func (r *Reconciler) tellNoPlace(p *pass, why string) {
	key := client.ObjectKeyFromObject(p.migration)
	r.mu.Lock()
	told := r.noPlace[key]
	r.noPlace[key] = true
	r.mu.Unlock()
	if !told {
		r.event(p.migration, corev1.EventTypeWarning, reasonNoPlace, why)
	}
}

// entered is when the migration entered its phase.
func entered(m *v1.VirtualMachineInstanceMigration) time.Time {
	all := m.Status.PhaseTransitionTimestamps
	if len(all) == 0 {
		return m.CreationTimestamp.Time
	}
	return all[len(all)-1].PhaseTransitionTimestamp.Time
}

func launcherRuns(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodRunning && slices.ContainsFunc(pod.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool {
		return c.State.Running != nil
	})
}

// follow draws the phase from what the nodes report.
func (r *Reconciler) follow(p *pass) error {
	state := p.state()
	if state == nil {
		return nil // the cache is still to learn of the handover
	}
	switch {
	case state.Completed:
		r.enter(p, v1.MigrationSucceeded)
		r.event(p.migration, corev1.EventTypeNormal, reasonSucceeded, "moved from "+state.SourceNode+" to "+state.TargetNode)
	case state.StartTimestamp != nil && p.migration.Status.Phase != v1.MigrationRunning:
		r.enter(p, v1.MigrationRunning)
	case state.StartTimestamp == nil && state.TargetNodeAddress != "" && p.migration.Status.Phase == v1.MigrationPreparingTarget:
		r.enter(p, v1.MigrationTargetReady)
	}
	return nil
}

// abort ends a migration whose object is deleted. Before the handover that is the target pod's end; afterwards the nodes must
// stop, and one of them may be faster.
func (r *Reconciler) abort(ctx context.Context, p *pass) error {
	state := p.state()
	if state == nil {
		r.fail(p, "the migration was cancelled")
		return nil
	}
	if state.Completed {
		return r.follow(p)
	}
	setCondition(p.migration, v1.VirtualMachineInstanceMigrationAbortRequested, corev1.ConditionTrue, "Deleted", "the migration was cancelled", r.Now())
	if state.AbortRequested {
		return nil
	}
	next := p.vmi.DeepCopy()
	next.Status.MigrationState.AbortRequested = true
	if state.StartTimestamp == nil {
		// Nothing moves yet: the target's agent stops when it sees the failure.
		now := metav1.NewTime(r.Now())
		next.Status.MigrationState.Completed, next.Status.MigrationState.Failed, next.Status.MigrationState.EndTimestamp = true, true, &now
		next.Status.MigrationState.FailureReason = "cancelled before it started"
		next.Status.MigrationState.AbortStatus = v1.MigrationAbortSucceeded
	}
	_, err := r.vmis.Patch(ctx, p.vmi, next)
	return err
}

// outdated gives the migrations of a VMI that ended before the newest kept ones.
func outdated(all []v1.VirtualMachineInstanceMigration, vmi string) []*v1.VirtualMachineInstanceMigration {
	var ended []*v1.VirtualMachineInstanceMigration
	for i := range all {
		if m := &all[i]; m.Spec.VMIName == vmi && m.IsFinal() && m.DeletionTimestamp == nil {
			ended = append(ended, m)
		}
	}
	if len(ended) <= kept {
		return nil
	}
	slices.SortFunc(ended, func(a, b *v1.VirtualMachineInstanceMigration) int {
		return b.CreationTimestamp.Compare(a.CreationTimestamp.Time)
	})
	return ended[kept:]
}
