package migration

import (
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/clusterconfig"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func waiting(name string, priority v1.MigrationPriority, second int) *migration {
	m := &migration{ObjectMeta: metav1.ObjectMeta{
		Name: name, Namespace: "ns", UID: types.UID(name), CreationTimestamp: metav1.NewTime(noon.Add(time.Duration(second) * time.Second)),
	}}
	m.Spec.VMIName = name
	if priority != "" {
		m.Spec.Priority = &priority
	}
	return m
}

// Nodes that are being emptied come first, then people's wishes, then upkeep; a node that is busy holds up only its own.
func TestQueue(t *testing.T) {
	all := []*migration{
		waiting("upkeep", v1.PrioritySystemMaintenance, 0), waiting("first", "", 1), waiting("second", v1.PriorityUserTriggered, 2),
		waiting("urgent", v1.PrioritySystemCritical, 3), waiting("other-node", "", 4),
	}
	node := func(m *migration) string {
		if m.Name == "other-node" {
			return "b"
		}
		return "a"
	}
	for _, c := range []struct {
		what             string
		cluster, perNode uint32
		leaving          map[string]int
		running          int
		want             []string
	}{
		{"one place", 1, 2, nil, 0, []string{"urgent"}},
		{"two places on a node", 5, 2, nil, 0, []string{"urgent", "first", "other-node"}},
		{"one is under way", 5, 2, map[string]int{"a": 1}, 1, []string{"urgent", "other-node"}},
		{"node is busy", 3, 2, map[string]int{"a": 2}, 2, []string{"other-node"}},
		{"cluster is busy", 2, 2, map[string]int{"a": 2}, 2, nil},
		{"room for all", 9, 9, nil, 0, []string{"urgent", "first", "second", "other-node", "upkeep"}},
	} {
		leaving := map[string]int{}
		for k, v := range c.leaving {
			leaving[k] = v
		}
		q := &queue{limits: clusterconfig.Migration{ParallelPerCluster: c.cluster, ParallelOutboundPerNode: c.perNode}, source: node, running: c.running, leaving: leaving}
		var got []string
		for _, m := range q.admitted(slices.Clone(all)) {
			got = append(got, m.Name)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}

// A guest that cannot be moved is not tried over and over; a person who asks is not kept waiting.
func TestPause(t *testing.T) {
	ended := func(second int, phase v1.VirtualMachineInstanceMigrationPhase) *migration {
		m := waiting("x", "", second)
		m.Annotations = map[string]string{v1.EvacuationMigrationAnnotation: "a"}
		m.Status.Phase = phase
		m.Status.PhaseTransitionTimestamps = []v1.VirtualMachineInstanceMigrationPhaseTransitionTimestamp{{
			Phase: phase, PhaseTransitionTimestamp: metav1.NewTime(noon.Add(time.Duration(second) * time.Second)),
		}}
		return m
	}
	evacuation := waiting("x", "", 100)
	evacuation.Annotations = map[string]string{v1.EvacuationMigrationAnnotation: "a"}
	hasty := waiting("x", "", 100)
	hasty.Annotations = map[string]string{v1.EvacuationMigrationAnnotation: "a", v1.FuncTestForceIgnoreMigrationBackoffAnnotation: ""}
	failed, succeeded := v1.MigrationFailed, v1.MigrationSucceeded
	for _, c := range []struct {
		what string
		m    *migration
		all  []*migration
		want time.Duration // after noon; 0 for no pause
	}{
		{"nothing failed", evacuation, nil, 0},
		{"one failure", evacuation, []*migration{ended(10, failed)}, 30 * time.Second},
		{"three failures", evacuation, []*migration{ended(10, failed), ended(30, failed), ended(20, failed)}, 110 * time.Second},
		{"a success between", evacuation, []*migration{ended(10, failed), ended(20, succeeded), ended(30, failed)}, 50 * time.Second},
		{"success last", evacuation, []*migration{ended(10, failed), ended(20, succeeded)}, 0},
		{"an annotation says not to wait", hasty, []*migration{ended(10, failed)}, 0},
		{"a person asks", waiting("x", "", 100), []*migration{ended(10, failed)}, 0},
	} {
		got := pause(c.all, c.m)
		if c.want == 0 && !got.IsZero() || c.want > 0 && !got.Equal(noon.Add(c.want)) {
			t.Errorf("%s: until %s, want %s after noon", c.what, got, c.want)
		}
	}
}
