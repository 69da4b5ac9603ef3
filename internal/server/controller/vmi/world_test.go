package vmi

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
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
	"virtctl/internal/libvirt/layout"
	"virtctl/internal/server/controller/index"
	"virtctl/internal/server/controller/launcherpod"
)

const image = "localhost/virtctl/virt-launcher:test"

// world is an API server in memory, what was written to it, and a clock.
type world struct {
	t        *testing.T
	c        client.WithWatch
	r        *Reconciler
	recorder *events.FakeRecorder
	now      time.Time
	writes   []string
	// refuse makes writes fail: it sees verb and object.
	refuse func(verb string, obj client.Object) error
	// deleted sees how objects are deleted.
	deleted func(*client.DeleteOptions)
	// podsAge gives new pods a time of creation, as the API server does; without, they count as old.
	podsAge bool
	// hide makes the cache not know an object yet.
	hide func(obj client.Object) bool
}

func newWorld(t *testing.T, objs ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{t: t, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), recorder: events.NewFakeRecorder(100)}
	w.c = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objs...).WithStatusSubresource(&corev1.Pod{}, &v1.VirtualMachine{}).
		WithIndex(&corev1.Pod{}, index.Owner, index.ByOwner).
		WithIndex(&v1.VirtualMachineInstance{}, index.Claim, index.ByClaim).Build()
	w.r = New(Options{
		Client: interceptor.NewClient(w.c, w.intercept()), Live: w.c, Config: clusterconfig.Fixed(nil), Recorder: w.recorder,
		LauncherImage: image, Now: func() time.Time { return w.now },
	})
	return w
}

func (w *world) intercept() interceptor.Funcs {
	write := func(verb string, obj client.Object, do func() error) error {
		if w.refuse != nil {
			if err := w.refuse(verb, obj); err != nil {
				return err
			}
		}
		err := do()
		if err == nil {
			w.writes = append(w.writes, fmt.Sprintf("%s %T", verb, obj))
		}
		return err
	}
	return interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, o ...client.CreateOption) error {
			return write("create", obj, func() error {
				if w.podsAge {
					obj.SetCreationTimestamp(metav1.NewTime(w.now))
				}
				err := c.Create(ctx, obj, o...)
				if pod, ok := obj.(*corev1.Pod); ok {
					pod.Status.QOSClass = corev1.PodQOSBurstable // the API server answers with it
				}
				return err
			})
		},
		Delete: func(ctx context.Context, c client.WithWatch, obj client.Object, o ...client.DeleteOption) error {
			if w.deleted != nil {
				options := &client.DeleteOptions{}
				options.ApplyOptions(o)
				w.deleted(options)
			}
			return write("delete", obj, func() error { return c.Delete(ctx, obj, o...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, p client.Patch, o ...client.PatchOption) error {
			return write("patch", obj, func() error { return c.Patch(ctx, obj, p, o...) })
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, p client.Patch, o ...client.SubResourcePatchOption) error {
			return write("patch "+sub, obj, func() error { return c.SubResource(sub).Patch(ctx, obj, p, o...) })
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, o ...client.ListOption) error {
			err := c.List(ctx, list, o...)
			if pods, ok := list.(*corev1.PodList); ok && w.hide != nil {
				kept := pods.Items[:0]
				for i := range pods.Items {
					if !w.hide(&pods.Items[i]) {
						kept = append(kept, pods.Items[i])
					}
				}
				pods.Items = kept
			}
			return err
		},
	}
}

// reconcile runs one pass and fails the test on an error.
func (w *world) reconcile() reconcile.Result {
	w.t.Helper()
	result, err := w.try()
	if err != nil {
		w.t.Fatal(err)
	}
	return result
}

func (w *world) try() (reconcile.Result, error) {
	return w.r.Reconcile(context.Background(), reconcile.Request{NamespacedName: key})
}

var key = types.NamespacedName{Namespace: "lab", Name: "tiny"}

// vmi reads the VMI, or gives nil when it is gone.
func (w *world) vmi() *v1.VirtualMachineInstance {
	w.t.Helper()
	vmi := &v1.VirtualMachineInstance{}
	if err := w.c.Get(context.Background(), key, vmi); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		w.t.Fatal(err)
	}
	return vmi
}

func (w *world) pod() *corev1.Pod {
	w.t.Helper()
	pod := &corev1.Pod{}
	name := types.NamespacedName{Namespace: "lab", Name: launcherpod.Name(newVMI())}
	if err := w.c.Get(context.Background(), name, pod); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		w.t.Fatal(err)
	}
	return pod
}

// edit changes the VMI as somebody else would.
func (w *world) edit(change func(*v1.VirtualMachineInstance)) {
	w.t.Helper()
	vmi := w.vmi()
	change(vmi)
	if err := w.c.Update(context.Background(), vmi); err != nil {
		w.t.Fatal(err)
	}
}

// podStatus plays kubelet and the scheduler.
func (w *world) podStatus(change func(*corev1.PodStatus)) {
	w.t.Helper()
	pod := w.pod()
	change(&pod.Status)
	if err := w.c.Status().Update(context.Background(), pod); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) removePod() {
	w.t.Helper()
	if err := w.c.Delete(context.Background(), w.pod()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) deleteVMI() {
	w.t.Helper()
	if err := w.c.Delete(context.Background(), w.vmi()); err != nil {
		w.t.Fatal(err)
	}
}

// told gives the events so far.
func (w *world) told() string {
	var all []string
	for {
		select {
		case e := <-w.recorder.Events:
			all = append(all, e)
		default:
			return strings.Join(all, "\n")
		}
	}
}

// newVMI is a VMI as admission leaves it.
func newVMI(change ...func(*v1.VirtualMachineInstance)) *v1.VirtualMachineInstance {
	memory := resource.MustParse("128Mi")
	vmi := &v1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{
		Namespace: key.Namespace, Name: key.Name, UID: "11111111-1111-4111-8111-111111111111",
		Finalizers: []string{v1.VirtualMachineInstanceFinalizer},
	}}
	vmi.Spec.Domain.Memory = &v1.Memory{Guest: &memory}
	vmi.Status.Phase, vmi.Status.RuntimeUser = v1.Pending, layout.UID
	for _, c := range change {
		c(vmi)
	}
	return vmi
}

func withClaim(vmi *v1.VirtualMachineInstance) {
	source := &v1.PersistentVolumeClaimVolumeSource{}
	source.ClaimName = "data"
	vmi.Spec.Volumes = append(vmi.Spec.Volumes, v1.Volume{Name: "disk", VolumeSource: v1.VolumeSource{PersistentVolumeClaim: source}})
}

func newClaim() *corev1.PersistentVolumeClaim {
	block := corev1.PersistentVolumeBlock
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "lab", Name: "data"},
		Spec: corev1.PersistentVolumeClaimSpec{
			VolumeMode: &block, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse("1Gi")}},
		},
	}
}

func running(s *corev1.PodStatus) {
	s.Phase, s.QOSClass = corev1.PodRunning, corev1.PodQOSBurstable
	s.Conditions = append(s.Conditions,
		corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
		corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionTrue},
		corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: kubeletNotReady})
	s.ContainerStatuses = []corev1.ContainerStatus{{Name: layout.ComputeContainer, Ready: true, State: corev1.ContainerState{
		Running: &corev1.ContainerStateRunning{},
	}}}
}

func waiting(reason, message string) func(*corev1.PodStatus) {
	return func(s *corev1.PodStatus) {
		s.Phase = corev1.PodPending
		s.ContainerStatuses = []corev1.ContainerStatus{{Name: layout.ComputeContainer, State: corev1.ContainerState{
			Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message},
		}}}
	}
}

func ended(code int32, at time.Time) func(*corev1.PodStatus) {
	return func(s *corev1.PodStatus) {
		s.Phase = corev1.PodFailed
		if code == 0 {
			s.Phase = corev1.PodSucceeded
		}
		s.ContainerStatuses = []corev1.ContainerStatus{{Name: layout.ComputeContainer, State: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: "Error", Message: "qemu: boom", FinishedAt: metav1.NewTime(at)},
		}}}
	}
}
