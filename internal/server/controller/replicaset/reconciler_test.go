package replicaset

import (
	"context"
	"errors"
	"strings"
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

	"virtctl/internal/server/controller/condition"
	"virtctl/internal/server/controller/index"
)

var key = types.NamespacedName{Namespace: "lab", Name: "farm"}

// world is an API server in memory. VMIs live in its own list, since the fake client cannot create typed ones with unsigned
// fields; that list is also the cache, which can be frozen.
type world struct {
	t      *testing.T
	c      client.WithWatch
	r      *Reconciler
	vmis   []*v1.VirtualMachineInstance
	frozen []v1.VirtualMachineInstance
	refuse error
	made   int
}

func newWorld(t *testing.T, set *v1.VirtualMachineInstanceReplicaSet, vmis ...*v1.VirtualMachineInstance) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{t: t, vmis: vmis}
	w.c = fake.NewClientBuilder().WithScheme(scheme).WithObjects(set).WithStatusSubresource(set).Build()
	w.r = New(interceptor.NewClient(w.c, interceptor.Funcs{Create: w.create, Delete: w.remove, List: w.list, Patch: w.patch}), events.NewFakeRecorder(1000))
	return w
}

func (w *world) create(_ context.Context, _ client.WithWatch, obj client.Object, _ ...client.CreateOption) error {
	if w.refuse != nil {
		return w.refuse
	}
	vmi := obj.(*v1.VirtualMachineInstance)
	w.made++
	vmi.UID = types.UID(rune('a' + w.made))
	vmi.Name = vmi.GenerateName + string(vmi.UID)
	w.vmis = append(w.vmis, vmi.DeepCopy())
	return nil
}

func (w *world) remove(_ context.Context, _ client.WithWatch, obj client.Object, _ ...client.DeleteOption) error {
	for _, vmi := range w.vmis {
		if vmi.UID == obj.GetUID() {
			now := metav1.Now()
			vmi.DeletionTimestamp = &now
		}
	}
	return nil
}

func (w *world) patch(ctx context.Context, c client.WithWatch, obj client.Object, p client.Patch, o ...client.PatchOption) error {
	vmi, ok := obj.(*v1.VirtualMachineInstance)
	if !ok {
		return c.Patch(ctx, obj, p, o...)
	}
	for i := range w.vmis {
		if w.vmis[i].UID == vmi.UID {
			w.vmis[i] = vmi.DeepCopy()
		}
	}
	return nil
}

func (w *world) list(_ context.Context, _ client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
	var o client.ListOptions
	o.ApplyOptions(opts)
	owner, _ := o.FieldSelector.RequiresExactMatch(index.Owner)
	out := list.(*v1.VirtualMachineInstanceList)
	all := w.frozen
	if all == nil {
		for _, vmi := range w.vmis {
			all = append(all, *vmi.DeepCopy())
		}
	}
	for i := range all {
		if index.ByOwner(&all[i])[0] == owner {
			out.Items = append(out.Items, all[i])
		}
	}
	return nil
}

func (w *world) reconcile() {
	w.t.Helper()
	if _, err := w.r.Reconcile(context.Background(), reconcile.Request{NamespacedName: key}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) status() v1.VirtualMachineInstanceReplicaSetStatus {
	w.t.Helper()
	set := &v1.VirtualMachineInstanceReplicaSet{}
	if err := w.c.Get(context.Background(), key, set); err != nil {
		w.t.Fatal(err)
	}
	return set.Status
}

func (w *world) edit(change func(*v1.VirtualMachineInstanceReplicaSet)) {
	w.t.Helper()
	set := &v1.VirtualMachineInstanceReplicaSet{}
	if err := w.c.Get(context.Background(), key, set); err != nil {
		w.t.Fatal(err)
	}
	change(set)
	if err := w.c.Update(context.Background(), set); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) living() []*v1.VirtualMachineInstance {
	var out []*v1.VirtualMachineInstance
	for _, vmi := range w.vmis {
		if vmi.DeletionTimestamp == nil && !vmi.IsFinal() {
			out = append(out, vmi)
		}
	}
	return out
}

func newSet(replicas int32) *v1.VirtualMachineInstanceReplicaSet {
	set := &v1.VirtualMachineInstanceReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "lab", Name: "farm", UID: "set"}}
	set.Spec.Replicas = &replicas
	set.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "farm"}}
	set.Spec.Template = &v1.VirtualMachineInstanceTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "farm"}}}
	return set
}

var isReady = v1.VirtualMachineInstanceCondition{Type: v1.VirtualMachineInstanceReady, Status: corev1.ConditionTrue}

// A set reaches its size, replaces what ends, and shrinks by those it can spare.
func TestScale(t *testing.T) {
	w := newWorld(t, newSet(3))
	w.reconcile()
	w.reconcile()
	if len(w.living()) != 3 {
		t.Fatalf("%d VMIs", len(w.living()))
	}
	ready := w.vmis[1]
	ready.Status.Phase = v1.Running
	condition.Set(ready, isReady, time.Now())
	w.vmis[0].Status.Phase = v1.Failed
	w.reconcile()
	w.reconcile()
	if s := w.status(); len(w.living()) != 3 || s.Replicas != 3 || s.ReadyReplicas != 1 || s.LabelSelector != "app=farm" {
		t.Errorf("%d VMIs, status %+v", len(w.living()), s)
	}
	if w.vmis[0].DeletionTimestamp == nil {
		t.Error("a failed VMI stays")
	}
	w.edit(func(s *v1.VirtualMachineInstanceReplicaSet) { one := int32(1); s.Spec.Replicas = &one })
	w.reconcile()
	w.reconcile()
	if left := w.living(); len(left) != 1 || left[0] != ready {
		t.Errorf("left: %d, the ready one among them: %v", len(left), len(left) > 0 && left[0] == ready)
	}
}

// A VMI whose pod was deleted may take minutes to stop: the set is not one short for so long.
func TestPodGoes(t *testing.T) {
	w := newWorld(t, newSet(2))
	w.reconcile()
	w.reconcile()
	leaving := w.vmis[0]
	leaving.Status.Phase = v1.Running
	condition.Set(leaving, v1.VirtualMachineInstanceCondition{
		Type: v1.VirtualMachineInstanceReady, Status: corev1.ConditionFalse, Reason: v1.PodTerminatingReason,
	}, time.Now())
	w.reconcile()
	if len(w.vmis) != 3 || len(w.living()) != 2 || leaving.DeletionTimestamp == nil {
		t.Errorf("%d VMIs, %d of them living; the leaving one is deleted: %v", len(w.vmis), len(w.living()), leaving.DeletionTimestamp != nil)
	}
}

// A cache that does not show the new VMIs yet must not lead to more of them; a VMI that is gone before it was seen does not
// block the set.
func TestOldCache(t *testing.T) {
	w := newWorld(t, newSet(2))
	w.frozen = []v1.VirtualMachineInstance{}
	w.reconcile()
	w.edit(func(s *v1.VirtualMachineInstanceReplicaSet) { s.Labels = map[string]string{"touched": "yes"} })
	w.reconcile()
	if w.made != 2 {
		t.Fatalf("%d VMIs were made", w.made)
	}
	lost := w.vmis[0]
	w.vmis, w.frozen = w.vmis[1:], nil
	w.r.concerned(context.Background(), lost)
	w.reconcile()
	if w.made != 3 {
		t.Errorf("%d VMIs were made after one was lost", w.made)
	}
}

func TestPaused(t *testing.T) {
	set := newSet(2)
	set.Spec.Paused = true
	w := newWorld(t, set)
	w.reconcile()
	if c := w.status().Conditions; w.made != 0 || len(c) != 1 || c[0].Type != v1.VirtualMachineInstanceReplicaSetReplicaPaused {
		t.Errorf("made %d, conditions %+v", w.made, c)
	}
	w.edit(func(s *v1.VirtualMachineInstanceReplicaSet) { s.Spec.Paused = false })
	w.reconcile()
	w.reconcile()
	if w.made != 2 || len(w.status().Conditions) != 0 {
		t.Errorf("made %d, conditions %+v", w.made, w.status().Conditions)
	}
}

func TestRefused(t *testing.T) {
	w := newWorld(t, newSet(1))
	w.refuse = errors.New("exceeded quota")
	if _, err := w.r.Reconcile(context.Background(), reconcile.Request{NamespacedName: key}); err == nil {
		t.Error("it should be tried again")
	}
	if c := w.status().Conditions; len(c) != 1 || c[0].Reason != reasonCreateFailed || !strings.Contains(c[0].Message, "exceeded quota") {
		t.Errorf("conditions %+v", c)
	}
	w.refuse = nil
	w.reconcile()
	if w.made != 1 || len(w.status().Conditions) != 0 {
		t.Errorf("made %d, conditions %+v", w.made, w.status().Conditions)
	}
}

// VMIs that nobody owns and the selector matches count.
func TestAdopt(t *testing.T) {
	orphan := &v1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Namespace: "lab", Name: "lone", UID: "lone", Labels: map[string]string{"app": "farm"}}}
	w := newWorld(t, newSet(1), orphan)
	w.reconcile()
	if w.made != 0 || !metav1.IsControlledBy(w.vmis[0], newSet(1)) {
		t.Errorf("made %d, owners %v", w.made, w.vmis[0].OwnerReferences)
	}
}
