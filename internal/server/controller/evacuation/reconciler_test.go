package evacuation

import (
	"context"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/server/controller/index"
)

type world struct {
	*testing.T
	client client.Client
	r      *Reconciler
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1.VirtualMachineInstanceMigration{}).
		WithIndex(&v1.VirtualMachineInstance{}, index.Node, index.ByNode).WithObjects(objects...).Build()
	return &world{t, c, New(Options{Client: c, Config: clusterconfig.Fixed(nil), Recorder: events.NewFakeRecorder(100)})}
}

func guest(name, node string, change func(*v1.VirtualMachineInstance)) *v1.VirtualMachineInstance {
	strategy := v1.EvictionStrategyLiveMigrate
	vmi := &v1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID(name)}}
	vmi.Spec.EvictionStrategy = &strategy
	vmi.Status.Phase, vmi.Status.NodeName, vmi.Status.EvacuationNodeName = v1.Running, node, node
	vmi.Status.Conditions = []v1.VirtualMachineInstanceCondition{{Type: v1.VirtualMachineInstanceIsMigratable, Status: corev1.ConditionTrue}}
	if change != nil {
		change(vmi)
	}
	return vmi
}

// migrations reconciles the node and gives whom the migrations that are there now are for.
func (w *world) migrations() []v1.VirtualMachineInstanceMigration {
	w.Helper()
	if _, err := w.r.Reconcile(context.Background(), reconcile.Request{NamespacedName: types.NamespacedName{Name: "a"}}); err != nil {
		w.Fatal(err)
	}
	var all v1.VirtualMachineInstanceMigrationList
	if err := w.client.List(context.Background(), &all); err != nil {
		w.Fatal(err)
	}
	return all.Items
}

func names(all []v1.VirtualMachineInstanceMigration) []string {
	var out []string
	for _, m := range all {
		out = append(out, m.Spec.VMIName)
	}
	slices.Sort(out)
	return out
}

// Who leaves a node that is drained, and who does not.
func TestWhoLeaves(t *testing.T) {
	strategy := func(s v1.EvictionStrategy) func(*v1.VirtualMachineInstance) {
		return func(vmi *v1.VirtualMachineInstance) { vmi.Spec.EvictionStrategy = &s }
	}
	unmarked := func(vmi *v1.VirtualMachineInstance) { vmi.Status.EvacuationNodeName = "" }
	taint := corev1.Taint{Key: "kubevirt.io/drain", Effect: corev1.TaintEffectNoSchedule}
	for _, c := range []struct {
		what   string
		taints []corev1.Taint
		change func(*v1.VirtualMachineInstance)
		leaves bool
	}{
		{"marked", nil, nil, true},
		{"marked, if possible", nil, strategy(v1.EvictionStrategyLiveMigrateIfPossible), true},
		{"somebody else's", nil, strategy(v1.EvictionStrategyExternal), false},
		{"without a strategy", nil, strategy(v1.EvictionStrategyNone), false},
		{"not marked", nil, unmarked, false},
		{"tainted node", []corev1.Taint{taint}, unmarked, true},
		{"other taint", []corev1.Taint{{Key: "kubevirt.io/drain", Effect: corev1.TaintEffectNoExecute}}, unmarked, false},
		{"marked for the node it has left", nil, func(vmi *v1.VirtualMachineInstance) { vmi.Status.EvacuationNodeName = "b" }, false},
		{"cannot migrate", nil, func(vmi *v1.VirtualMachineInstance) { vmi.Status.Conditions = nil }, false},
		{"not running yet", nil, func(vmi *v1.VirtualMachineInstance) { vmi.Status.Phase = v1.Scheduled }, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: corev1.NodeSpec{Taints: c.taints}}
			w := newWorld(t, node, guest("vm", "a", c.change), guest("neighbour", "b", nil))
			if got := w.migrations(); (len(got) == 1) != c.leaves || len(got) > 1 {
				t.Fatalf("migrations: %v", names(got))
			}
			if again := w.migrations(); len(again) > 1 {
				t.Errorf("a second migration of the same guest: %v", names(again))
			}
		})
	}
}

// A node is emptied as fast as the limits allow, and no faster.
func TestLimits(t *testing.T) {
	objects := []client.Object{&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}}}
	for i := range 5 {
		objects = append(objects, guest(fmt.Sprintf("vm%d", i), "a", nil))
	}
	w := newWorld(t, objects...)
	if got := w.migrations(); len(got) != 2 {
		t.Fatalf("%d migrations at once: %v", len(got), names(got))
	}
	for range 10 {
		all := w.migrations()
		for i := range all {
			m := &all[i]
			if m.IsFinal() {
				continue
			}
			if *m.Spec.Priority != v1.PrioritySystemCritical || m.Annotations[v1.EvacuationMigrationAnnotation] != "a" {
				t.Errorf("migration %+v", m.ObjectMeta)
			}
			vmi := &v1.VirtualMachineInstance{}
			if err := w.client.Get(context.Background(), types.NamespacedName{Namespace: "ns", Name: m.Spec.VMIName}, vmi); err != nil {
				t.Fatal(err)
			}
			vmi.Status.NodeName, vmi.Status.EvacuationNodeName = "b", ""
			m.Status.Phase = v1.MigrationSucceeded
			if err := w.client.Update(context.Background(), vmi); err != nil {
				t.Fatal(err)
			}
			if err := w.client.Status().Update(context.Background(), m); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	if got := names(w.migrations()); !slices.Equal(got, []string{"vm0", "vm1", "vm2", "vm3", "vm4"}) {
		t.Errorf("left: %v", got)
	}
}

// What the descheduler asks for is upkeep: it does not get in the way of a drain.
func TestDeschedulersEvictionsCanWait(t *testing.T) {
	w := newWorld(t, guest("vm", "a", func(vmi *v1.VirtualMachineInstance) {
		vmi.Annotations = map[string]string{v1.EvictionSourceAnnotation: descheduler}
	}))
	if got := w.migrations(); len(got) != 1 || *got[0].Spec.Priority != v1.PrioritySystemMaintenance {
		t.Errorf("%+v", got)
	}
}
