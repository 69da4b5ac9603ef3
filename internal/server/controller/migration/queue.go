package migration

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/clusterconfig"
)

// migration is what the queue looks at.
type migration = v1.VirtualMachineInstanceMigration

// Unfinished lists the migrations that are not over; an empty namespace means all. They belong to the cache.
func Unfinished(ctx context.Context, c client.Reader, namespace string) ([]*migration, error) {
	all, err := list(ctx, c, namespace)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(m *migration) bool { return m.IsFinal() }), nil
}

func list(ctx context.Context, c client.Reader, namespace string) ([]*migration, error) {
	var found v1.VirtualMachineInstanceMigrationList
	if err := c.List(ctx, &found, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("list the migrations: %w", err)
	}
	out := make([]*migration, 0, len(found.Items))
	for i := range found.Items {
		out = append(out, &found.Items[i])
	}
	return out, nil
}

// waits tells that a migration has not begun.
func waits(m *migration) bool {
	return m.Status.Phase == v1.MigrationPhaseUnset || m.Status.Phase == v1.MigrationPending
}

// rank is how urgent a waiting migration is (contract): nodes that are emptied first, then people, then upkeep.
func rank(m *migration) int {
	switch {
	case rejected(m):
		return -1 // others may have room in their quotas
	case m.Spec.Priority == nil:
		return 50
	}
	switch *m.Spec.Priority {
	case v1.PrioritySystemCritical:
		return 100
	case v1.PriorityUserTriggered:
		return 50
	case v1.PrioritySystemMaintenance:
		return 20
	}
	return 0
}

func byRank(a, b *migration) int {
	return cmp.Or(
		cmp.Compare(rank(b), rank(a)),
		a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
		cmp.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name),
	)
}

// queue is who may begin.
type queue struct {
	limits clusterconfig.Migration
	// source tells which node a migration leaves.
	source  func(*migration) string
	running int
	leaving map[string]int
}

func (q *queue) full() bool { return q.running >= int(q.limits.ParallelPerCluster) }

// take counts a migration as running.
func (q *queue) take(m *migration) {
	q.running++
	q.leaving[q.source(m)]++
}

// admitted gives those of the waiting that may begin now, in their order. One whose node is busy holds nobody else up.
func (q *queue) admitted(waiting []*migration) []*migration {
	slices.SortFunc(waiting, byRank)
	var out []*migration
	for _, m := range waiting {
		if q.full() {
			break
		}
		if q.leaving[q.source(m)] >= int(q.limits.ParallelOutboundPerNode) {
			continue
		}
		q.take(m)
		out = append(out, m)
	}
	return out
}

// next gives the migrations that may begin now.
func (r *Reconciler) next(ctx context.Context) ([]*migration, error) {
	all, err := list(ctx, r.Client, "")
	if err != nil {
		return nil, err
	}
	q := &queue{limits: r.Config.Get().Migration, source: r.sources(ctx), leaving: map[string]int{}}
	var waiting []*migration
	for _, m := range all {
		switch {
		case m.IsFinal():
		case !waits(m) || r.writer.Stale(m): // what the cache shows as waiting we may have let go
			q.take(m)
		case m.DeletionTimestamp == nil && !pause(all, m).After(r.Now()) && r.runs(ctx, m):
			waiting = append(waiting, m)
		}
	}
	return q.admitted(waiting), nil
}

// runs tells that there is something to migrate: a guest that is yet to start would take the place of one that could go.
func (r *Reconciler) runs(ctx context.Context, m *migration) bool {
	vmi := &v1.VirtualMachineInstance{}
	err := r.Client.Get(ctx, types.NamespacedName{Namespace: m.Namespace, Name: m.Spec.VMIName}, vmi)
	return err == nil && vmi.Status.Phase == v1.Running
}

// sources tells which node a migration leaves: what it was handed over with, or where its guest is.
func (r *Reconciler) sources(ctx context.Context) func(*migration) string {
	known := map[types.UID]string{}
	return func(m *migration) string {
		if s := m.Status.MigrationState; s != nil && s.MigrationUID == m.UID {
			return s.SourceNode
		}
		if node, ok := known[m.UID]; ok {
			return node
		}
		vmi := &v1.VirtualMachineInstance{}
		if r.Client.Get(ctx, types.NamespacedName{Namespace: m.Namespace, Name: m.Spec.VMIName}, vmi) == nil {
			known[m.UID] = vmi.Status.NodeName
		}
		return known[m.UID]
	}
}

// Back-off of migrations that nobody asked for by name (contract).
const (
	firstPause = 20 * time.Second
	lastPause  = 10 * time.Minute
)

// pause is until when a migration that the platform itself wants waits after others of the same guest have failed; zero means it
// need not wait.
func pause(all []*migration, m *migration) time.Time {
	if _, ignored := m.Annotations[v1.FuncTestForceIgnoreMigrationBackoffAnnotation]; ignored || !automatic(m) {
		return time.Time{}
	}
	var ended []*migration
	for _, other := range all {
		if other.Namespace == m.Namespace && other.Spec.VMIName == m.Spec.VMIName && other.IsFinal() && automatic(other) {
			ended = append(ended, other)
		}
	}
	slices.SortFunc(ended, func(a, b *migration) int { return entered(b).Compare(entered(a)) })
	wait := time.Duration(0)
	for _, other := range ended {
		if other.Status.Phase != v1.MigrationFailed {
			break
		}
		wait = min(max(firstPause, 2*wait), lastPause)
	}
	if wait == 0 {
		return time.Time{}
	}
	return entered(ended[0]).Add(wait)
}

// automatic tells that a migration was made by the platform, which makes another one when it fails.
func automatic(m *migration) bool {
	_, evacuates := m.Annotations[v1.EvacuationMigrationAnnotation]
	_, updates := m.Annotations[v1.WorkloadUpdateMigrationAnnotation]
	return evacuates || updates
}

// rejected tells that the namespace's quota had no room for the target pod.
func rejected(m *migration) bool {
	return slices.ContainsFunc(m.Status.Conditions, func(c v1.VirtualMachineInstanceMigrationCondition) bool {
		return c.Type == v1.VirtualMachineInstanceMigrationRejectedByResourceQuota && c.Status == corev1.ConditionTrue
	})
}
