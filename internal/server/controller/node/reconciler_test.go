package node

import (
	"context"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"virtctl/internal/nodelease"
	"virtctl/internal/server/controller/index"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func nodeObject(beat string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{v1.NodeSchedulable: "true"}}}
	if beat != "" {
		n.Annotations = map[string]string{v1.VirtHandlerHeartbeat: beat}
	}
	return n
}

func lease(renewed time.Time) *coordinationv1.Lease {
	return nodelease.New("kubevirt", &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.NewMicroTime(renewed))
}

// liar is a lease by which another node's agent speaks for n1.
func liar(renewed time.Time) *coordinationv1.Lease {
	l, other := lease(renewed), "n2"
	l.Spec.HolderIdentity = &other
	return l
}

func guest(name string, phase v1.VirtualMachineInstancePhase) *v1.VirtualMachineInstance {
	vmi := &v1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Namespace: "lab", Name: name, UID: "uid-" + "x"}}
	vmi.Status.Phase, vmi.Status.NodeName = phase, "n1"
	return vmi
}

func podOf(vmi *v1.VirtualMachineInstance, phase corev1.PodPhase) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "lab", Name: "virt-launcher-" + vmi.Name,
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(vmi, v1.VirtualMachineInstanceGroupVersionKind)},
	}}
	pod.Status.Phase = phase
	return pod
}

func reconciler(t *testing.T, objs ...client.Object) (*Reconciler, *events.FakeRecorder) {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objs...).
		WithIndex(&corev1.Pod{}, index.Owner, index.ByOwner).
		WithIndex(&v1.VirtualMachineInstance{}, index.Node, index.ByNode).Build()
	recorder := events.NewFakeRecorder(10)
	r := New(c, recorder, "kubevirt")
	r.Now = func() time.Time { return noon }
	return r, recorder
}

func TestNode(t *testing.T) {
	fresh, old := noon.Add(-time.Minute).Format(time.RFC3339), noon.Add(-6*time.Minute).Format(time.RFC3339)
	vmi := guest("web", v1.Running)
	cases := []struct {
		name   string
		objs   []client.Object
		open   string // label afterwards
		phase  v1.VirtualMachineInstancePhase
		events int
		again  time.Duration
	}{
		{"reports", []client.Object{nodeObject(fresh), vmi}, "true", v1.Running, 0, 4 * time.Minute},
		{"reports, quoted", []client.Object{nodeObject(`"` + fresh + `"`), vmi}, "true", v1.Running, 0, 4 * time.Minute},
		{"renews its lease", []client.Object{nodeObject(old), lease(noon.Add(-time.Minute)), vmi}, "true", v1.Running, 0, 4 * time.Minute},
		{"a lease and no annotation", []client.Object{nodeObject(""), lease(noon.Add(-time.Minute)), vmi}, "true", v1.Running, 0, 4 * time.Minute},
		{"an old lease", []client.Object{nodeObject(old), lease(noon.Add(-7 * time.Minute)), vmi}, "false", v1.Failed, 2, recheck},
		{"an old lease, an agent of an earlier version", []client.Object{nodeObject(fresh), lease(noon.Add(-7 * time.Minute)), vmi}, "true", v1.Running, 0, 4 * time.Minute},
		{"another node's agent", []client.Object{nodeObject(old), liar(noon), vmi}, "false", v1.Failed, 2, recheck},
		{"not ours", []client.Object{nodeObject(""), vmi}, "true", v1.Running, 0, 0},
		{"silent, pod gone", []client.Object{nodeObject(old), vmi}, "false", v1.Failed, 2, recheck},
		{"unreadable report", []client.Object{nodeObject("yesterday"), vmi}, "false", v1.Failed, 2, recheck},
		{"silent, pod failed", []client.Object{nodeObject(old), vmi, podOf(vmi, corev1.PodFailed)}, "false", v1.Failed, 2, recheck},
		{"silent, pod known", []client.Object{nodeObject(old), vmi, podOf(vmi, corev1.PodRunning)}, "false", v1.Running, 1, recheck},
		{"silent, guest ended", []client.Object{nodeObject(old), guest("web", v1.Succeeded)}, "false", v1.Succeeded, 1, 0},
		{"node removed", []client.Object{vmi}, "", v1.Failed, 1, recheck},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for i := range c.objs {
				c.objs[i] = c.objs[i].DeepCopyObject().(client.Object)
			}
			r, recorder := reconciler(t, c.objs...)
			result, err := r.Reconcile(context.Background(), reconcile.Request{NamespacedName: client.ObjectKey{Name: "n1"}})
			if err != nil || result.RequeueAfter != c.again {
				t.Errorf("look again after %v, error %v", result.RequeueAfter, err)
			}
			node := &corev1.Node{}
			if c.open != "" {
				if err := r.Client.Get(context.Background(), client.ObjectKey{Name: "n1"}, node); err != nil || node.Labels[v1.NodeSchedulable] != c.open {
					t.Errorf("label %q, %v", node.Labels[v1.NodeSchedulable], err)
				}
			}
			vmi := &v1.VirtualMachineInstance{}
			if err := r.Client.Get(context.Background(), client.ObjectKey{Namespace: "lab", Name: "web"}, vmi); err != nil {
				t.Fatal(err)
			}
			if vmi.Status.Phase != c.phase || (c.phase == v1.Failed) != (vmi.Status.Reason == reasonUnresponsive) {
				t.Errorf("phase %s, reason %q", vmi.Status.Phase, vmi.Status.Reason)
			}
			if len(recorder.Events) != c.events {
				t.Errorf("%d events", len(recorder.Events))
			}
			for range c.events {
				if e := <-recorder.Events; !strings.Contains(e, reasonUnresponsive) {
					t.Errorf("event %q", e)
				}
			}
		})
	}
}

// The annotation is written by a program on the node, which may be anything.
func FuzzHeartbeat(f *testing.F) {
	for _, s := range []string{"", `"`, `""`, "2026-11-22T12:00:00Z", `"2026-11-22T12:00:00Z"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if _, managed := heartbeat(nodeObject(s)); managed != (s != "") {
			t.Errorf("%q: managed %v", s, managed)
		}
	})
}
