package workloadupdate

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/server/controller/index"
)

type world struct {
	*testing.T
	client  client.Client
	r       *Reconciler
	now     time.Time
	evicted []string
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{T: t, now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	w.client = fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1.VirtualMachineInstanceMigration{}, &v1.KubeVirt{}).
		WithIndex(&corev1.Pod{}, index.Owner, index.ByOwner).WithObjects(objects...).
		WithInterceptorFuncs(interceptor.Funcs{SubResourceCreate: func(_ context.Context, _ client.Client, sub string, obj, _ client.Object, _ ...client.SubResourceCreateOption) error {
			if sub == "eviction" {
				w.evicted = append(w.evicted, obj.GetName())
			}
			return nil
		}}).Build()
	w.r = New(Options{
		Client: w.client, Config: clusterconfig.Fixed(nil), Recorder: events.NewFakeRecorder(100), Now: func() time.Time { return w.now },
	})
	return w
}

func kubevirt(methods ...v1.WorkloadUpdateMethod) *v1.KubeVirt {
	size := 2
	kv := &v1.KubeVirt{ObjectMeta: metav1.ObjectMeta{Name: "kubevirt", Namespace: "kubevirt"}}
	kv.Spec.WorkloadUpdateStrategy = v1.KubeVirtWorkloadUpdateStrategy{WorkloadUpdateMethods: methods, BatchEvictionSize: &size}
	kv.Status.Phase = v1.KubeVirtPhaseDeployed
	return kv
}

// machines gives n running machines with an old launcher, and their pods.
func machines(n int, migratable bool) []client.Object {
	status := corev1.ConditionFalse
	if migratable {
		status = corev1.ConditionTrue
	}
	var out []client.Object
	for i := range n {
		name := fmt.Sprintf("vm%d", i)
		vmi := &v1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "ns", UID: types.UID(name), Labels: map[string]string{v1.OutdatedLauncherImageLabel: ""},
		}}
		vmi.Status.Phase = v1.Running
		vmi.Status.Conditions = []v1.VirtualMachineInstanceCondition{{Type: v1.VirtualMachineInstanceIsMigratable, Status: status}}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Name: "pod-" + name, Namespace: "ns", UID: types.UID("pod-" + name),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(vmi, v1.VirtualMachineInstanceGroupVersionKind)},
		}}
		pod.Status.Phase = corev1.PodRunning
		out = append(out, vmi, pod)
	}
	return out
}

func (w *world) reconcile() (again time.Duration, migrations int, kv *v1.KubeVirt) {
	w.Helper()
	key := types.NamespacedName{Namespace: "kubevirt", Name: "kubevirt"}
	result, err := w.r.Reconcile(context.Background(), reconcile.Request{NamespacedName: key})
	if err != nil {
		w.Fatal(err)
	}
	var all v1.VirtualMachineInstanceMigrationList
	if err := w.client.List(context.Background(), &all); err != nil {
		w.Fatal(err)
	}
	kv = &v1.KubeVirt{}
	if err := w.client.Get(context.Background(), key, kv); err != nil {
		w.Fatal(err)
	}
	return result.RequeueAfter, len(all.Items), kv
}

// Without a method an upgrade disturbs nobody; the administrator sees how many machines are behind.
func TestCountsOnly(t *testing.T) {
	w := newWorld(t, append(machines(3, true), kubevirt())...)
	_, migrations, kv := w.reconcile()
	if got := kv.Status.OutdatedVirtualMachineInstanceWorkloads; got == nil || *got != 3 || migrations != 0 || len(w.evicted) != 0 {
		t.Errorf("count %v, %d migrations, evicted %v", got, migrations, w.evicted)
	}
}

func TestMigratesWithinTheLimits(t *testing.T) {
	w := newWorld(t, append(machines(8, true), kubevirt(v1.WorkloadUpdateMethodLiveMigrate, v1.WorkloadUpdateMethodEvict))...)
	for range 3 {
		if _, migrations, _ := w.reconcile(); migrations != 5 || len(w.evicted) != 0 {
			t.Fatalf("%d migrations, evicted %v", migrations, w.evicted)
		}
	}
}

func TestEvictsInBatches(t *testing.T) {
	w := newWorld(t, append(machines(5, false), kubevirt(v1.WorkloadUpdateMethodLiveMigrate, v1.WorkloadUpdateMethodEvict))...)
	again, migrations, _ := w.reconcile()
	if migrations != 0 || len(w.evicted) != 2 || again != time.Minute {
		t.Fatalf("%d migrations, evicted %v, again in %s", migrations, w.evicted, again)
	}
	if w.reconcile(); len(w.evicted) != 2 {
		t.Errorf("evicted %v within the interval", w.evicted)
	}
	w.now = w.now.Add(time.Minute)
	if w.reconcile(); len(w.evicted) != 4 {
		t.Errorf("evicted %v after the interval", w.evicted)
	}
}

// Only what the administrator allowed is done, and nothing while the platform itself is updated.
func TestLeavesAlone(t *testing.T) {
	busy := kubevirt(v1.WorkloadUpdateMethodLiveMigrate, v1.WorkloadUpdateMethodEvict)
	busy.Status.TargetKubeVirtVersion = "next"
	for what, objects := range map[string][]client.Object{
		"not movable, no eviction": append(machines(2, false), kubevirt(v1.WorkloadUpdateMethodLiveMigrate)),
		"update under way":         append(machines(2, true), busy),
	} {
		w := newWorld(t, objects...)
		if _, migrations, _ := w.reconcile(); migrations != 0 || len(w.evicted) != 0 {
			t.Errorf("%s: %d migrations, evicted %v", what, migrations, w.evicted)
		}
	}
}
