package vm

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	v1 "kubevirt.io/api/core/v1"
	"kubevirt.io/api/instancetype/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/structured-merge-diff/v6/typed"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/server/controller/condition"
)

var key = types.NamespacedName{Namespace: "lab", Name: "web"}

const vmUID = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"

// world is an API server in memory, what was written to it, and a clock.
type world struct {
	t        *testing.T
	c        client.WithWatch
	r        *Reconciler
	recorder *events.FakeRecorder
	now      time.Time
	writes   []string
	refuse   func(verb string, obj client.Object) error
	// vmisAge gives new VMIs a time of creation, as the API server does; without, they count as old.
	vmisAge bool
	// blind makes the cache not know the VMI.
	blind bool
	uids  int
}

func newWorld(t *testing.T, objs ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1.AddToScheme, v1beta1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{t: t, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), recorder: events.NewFakeRecorder(100)}
	w.c = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objs...).WithStatusSubresource(&v1.VirtualMachine{}).
		WithTypeConverters(plain{managedfields.NewDeducedTypeConverter()}).Build()
	w.r = New(Options{
		Client: interceptor.NewClient(w.c, w.intercept()), Live: w.c, Config: clusterconfig.Fixed(nil), Recorder: w.recorder,
		Now: func() time.Time { return w.now },
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
			w.writes = append(w.writes, verb+" "+strings.TrimPrefix(fmt.Sprintf("%T", obj), "*v1."))
		}
		return err
	}
	return interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, o ...client.CreateOption) error {
			if vmi, ok := obj.(*v1.VirtualMachineInstance); ok {
				w.uids++ // the API server's and admission's part
				vmi.UID = types.UID(fmt.Sprintf("vmi-%d", w.uids))
				vmi.Finalizers = []string{v1.VirtualMachineInstanceFinalizer}
				vmi.Status.Phase = v1.Pending
				if w.vmisAge {
					vmi.CreationTimestamp = metav1.NewTime(w.now)
				}
			}
			return write("create", obj, func() error { return c.Create(ctx, obj, o...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, obj client.Object, o ...client.DeleteOption) error {
			return write("delete", obj, func() error { return c.Delete(ctx, obj, o...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, p client.Patch, o ...client.PatchOption) error {
			return write("patch", obj, func() error { return c.Patch(ctx, obj, p, o...) })
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, p client.Patch, o ...client.SubResourcePatchOption) error {
			return write("patch "+sub, obj, func() error { return c.SubResource(sub).Patch(ctx, obj, p, o...) })
		},
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, o ...client.GetOption) error {
			if _, ok := obj.(*v1.VirtualMachineInstance); ok && w.blind {
				return apierrors.NewNotFound(v1.Resource("virtualmachineinstances"), key.Name)
			}
			return c.Get(ctx, key, obj, o...)
		},
	}
}

// plain lets the fake client's field manager see objects as JSON: it cannot read unsigned fields of typed ones.
type plain struct{ managedfields.TypeConverter }

func (p plain) ObjectToTyped(obj runtime.Object, o ...typed.ValidationOptions) (*typed.TypedValue, error) {
	text, err := json.Marshal(obj)
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(text); err != nil {
		return nil, err
	}
	return p.TypeConverter.ObjectToTyped(u, o...)
}

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

func (w *world) vm() *v1.VirtualMachine {
	w.t.Helper()
	vm := &v1.VirtualMachine{}
	if err := w.c.Get(context.Background(), key, vm); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		w.t.Fatal(err)
	}
	return vm
}

func (w *world) vmi() *v1.VirtualMachineInstance {
	w.t.Helper()
	vmi, err := w.r.liveVMI(context.Background(), key)
	if err != nil {
		w.t.Fatal(err)
	}
	return vmi
}

// edit changes the VM as a user would.
func (w *world) edit(change func(*v1.VirtualMachine)) {
	w.t.Helper()
	vm := w.vm()
	change(vm)
	vm.Generation++
	if err := w.c.Update(context.Background(), vm); err != nil {
		w.t.Fatal(err)
	}
}

// request queues requests as virt-api does.
func (w *world) request(requests ...v1.VirtualMachineStateChangeRequest) {
	w.t.Helper()
	vm := w.vm()
	vm.Status.StateChangeRequests = requests
	if err := w.c.Status().Update(context.Background(), vm); err != nil {
		w.t.Fatal(err)
	}
}

// phase plays the VMI controller and virt-handler.
func (w *world) phase(phase v1.VirtualMachineInstancePhase, conditions ...v1.VirtualMachineInstanceCondition) {
	w.t.Helper()
	vmi := w.vmi()
	vmi.Status.Phase = phase
	vmi.Status.PhaseTransitionTimestamps = append(vmi.Status.PhaseTransitionTimestamps,
		v1.VirtualMachineInstancePhaseTransitionTimestamp{Phase: phase, PhaseTransitionTimestamp: metav1.NewTime(w.now)})
	for _, c := range conditions {
		condition.Set(vmi, c, w.now)
	}
	if err := w.c.Update(context.Background(), vmi); err != nil {
		w.t.Fatal(err)
	}
}

// vmiGone lets a deleted VMI go.
func (w *world) vmiGone() {
	w.t.Helper()
	vmi := w.vmi()
	if vmi.DeletionTimestamp == nil {
		w.t.Fatal("the VMI is not deleted")
	}
	vmi.Finalizers = nil
	if err := w.c.Update(context.Background(), vmi); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) deleteVM() {
	w.t.Helper()
	if err := w.c.Delete(context.Background(), w.vm()); err != nil {
		w.t.Fatal(err)
	}
}

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

func (w *world) expect(status v1.VirtualMachinePrintableStatus) {
	w.t.Helper()
	if got := w.vm().Status.PrintableStatus; got != status {
		w.t.Fatalf("printable status %q, want %q", got, status)
	}
}

var ready = v1.VirtualMachineInstanceCondition{Type: v1.VirtualMachineInstanceReady, Status: corev1.ConditionTrue}

// newVM is a VM as admission leaves it.
func newVM(strategy v1.VirtualMachineRunStrategy, change ...func(*v1.VirtualMachine)) *v1.VirtualMachine {
	memory := resource.MustParse("128Mi")
	vm := &v1.VirtualMachine{ObjectMeta: metav1.ObjectMeta{
		Namespace: key.Namespace, Name: key.Name, UID: vmUID, Generation: 1, Finalizers: []string{v1.VirtualMachineControllerFinalizer},
	}}
	vm.Spec.RunStrategy = &strategy
	vm.Spec.Template = &v1.VirtualMachineInstanceTemplateSpec{}
	vm.Spec.Template.Spec.Domain.Memory = &v1.Memory{Guest: &memory}
	for _, c := range change {
		c(vm)
	}
	return vm
}
