package datavolume

import (
	"context"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	v1 "kubevirt.io/api/core/v1"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// watcher knows DataVolumes; access reviews are answered by allow and kept in asked.
func watcher(t *testing.T, allow bool, asked *[]authorizationv1.SubjectAccessReviewSpec, objs ...client.Object) *Watcher {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1.AddToScheme, cdi.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objs...).WithInterceptorFuncs(interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, o ...client.CreateOption) error {
			if review, ok := obj.(*authorizationv1.SubjectAccessReview); ok {
				*asked = append(*asked, review.Spec)
				review.Status.Allowed = allow
				return nil
			}
			return c.Create(ctx, obj, o...)
		},
	}).Build()
	w := New(nil, nil, c, c)
	w.available = func() bool { return true }
	settled := make(chan struct{})
	close(settled)
	w.settled = settled
	return w
}

func machine(source *cdi.DataVolumeSource) *v1.VirtualMachine {
	vm := &v1.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "lab", Name: "web", UID: "vm"}}
	strategy := v1.RunStrategyAlways
	vm.Spec.RunStrategy = &strategy
	vm.Spec.Template = &v1.VirtualMachineInstanceTemplateSpec{}
	vm.Spec.DataVolumeTemplates = []v1.DataVolumeTemplateSpec{{
		ObjectMeta: metav1.ObjectMeta{Name: "root", Labels: map[string]string{"app": "web"}}, Spec: cdi.DataVolumeSpec{Source: source},
	}}
	return vm
}

// A VM's DataVolume is made once, belongs to it, and is followed until it is filled.
func TestEnsure(t *testing.T) {
	var asked []authorizationv1.SubjectAccessReviewSpec
	w := watcher(t, false, &asked)
	vm := machine(&cdi.DataVolumeSource{HTTP: &cdi.DataVolumeSourceHTTP{URL: "https://example.com/disk.img"}})
	p, err := w.Ensure(context.Background(), vm)
	if err != nil || p.Ready || p.Failed || !strings.Contains(p.Why, "root") {
		t.Fatalf("%+v, %v", p, err)
	}
	dv := &cdi.DataVolume{}
	if err := w.client.Get(context.Background(), client.ObjectKey{Namespace: "lab", Name: "root"}, dv); err != nil {
		t.Fatal(err)
	}
	if !metav1.IsControlledBy(dv, vm) || dv.Labels["app"] != "web" || dv.Labels[v1.CreatedByLabel] != "vm" {
		t.Errorf("DataVolume %+v", dv.ObjectMeta)
	}
	if ready, why, err := w.Progress(context.Background(), "lab", "root"); ready || why == "" || err != nil {
		t.Errorf("ready %v, %q, %v", ready, why, err)
	}
	dv.Status.Phase = cdi.Succeeded
	if err := w.client.Update(context.Background(), dv); err != nil {
		t.Fatal(err)
	}
	if p, err = w.Ensure(context.Background(), vm); err != nil || !p.Ready {
		t.Errorf("%+v, %v", p, err)
	}
	if ready, _, err := w.Progress(context.Background(), "lab", "root"); !ready || err != nil {
		t.Errorf("ready %v, %v", ready, err)
	}
	if ready, _, err := w.Progress(context.Background(), "lab", "collected-since"); !ready || err != nil {
		t.Errorf("a claim without DataVolume: ready %v, %v", ready, err)
	}
}

// Somebody else's disk is not cloned for a VM whose service account may not read it.
func TestForeignSource(t *testing.T) {
	source := &cdi.DataVolumeSource{PVC: &cdi.DataVolumeSourcePVC{Namespace: "secret", Name: "disk"}}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "secret"}}
	var asked []authorizationv1.SubjectAccessReviewSpec
	w := watcher(t, false, &asked, namespace)
	p, err := w.Ensure(context.Background(), machine(source))
	if err == nil || !p.Failed || !strings.Contains(err.Error(), "lab/default") {
		t.Errorf("%+v, %v", p, err)
	}
	if len(asked) == 0 || asked[0].ResourceAttributes.Namespace != "secret" || asked[0].User != "system:serviceaccount:lab:default" {
		t.Errorf("asked %+v", asked)
	}
	var dvs cdi.DataVolumeList
	if err := w.client.List(context.Background(), &dvs); err != nil || len(dvs.Items) > 0 {
		t.Errorf("%d DataVolumes, %v", len(dvs.Items), err)
	}
	w = watcher(t, true, &asked, namespace)
	if p, err = w.Ensure(context.Background(), machine(source)); err != nil || p.Failed {
		t.Errorf("allowed: %+v, %v", p, err)
	}
}

func TestWithoutCDI(t *testing.T) {
	var asked []authorizationv1.SubjectAccessReviewSpec
	w := watcher(t, true, &asked)
	w.available = func() bool { return false }
	if p, err := w.Ensure(context.Background(), machine(nil)); err != nil || !p.Failed || !strings.Contains(p.Why, "CDI") {
		t.Errorf("%+v, %v", p, err)
	}
	vm := machine(nil)
	vm.Spec.DataVolumeTemplates = nil
	if p, err := w.Ensure(context.Background(), vm); err != nil || !p.Ready {
		t.Errorf("%+v, %v", p, err)
	}
	if ready, _, err := w.Progress(context.Background(), "lab", "root"); !ready || err != nil {
		t.Errorf("ready %v, %v", ready, err)
	}
}

func TestDeferred(t *testing.T) {
	var asked []authorizationv1.SubjectAccessReviewSpec
	w := watcher(t, true, &asked)
	vm := machine(&cdi.DataVolumeSource{Blank: &cdi.DataVolumeBlankImage{}})
	halted := v1.RunStrategyHalted
	vm.Spec.RunStrategy = &halted
	vm.Annotations = map[string]string{v1.ImmediateDataVolumeCreation: "false"}
	if _, err := w.Ensure(context.Background(), vm); err != nil {
		t.Fatal(err)
	}
	var dvs cdi.DataVolumeList
	if err := w.client.List(context.Background(), &dvs); err != nil || len(dvs.Items) != 0 {
		t.Errorf("%d DataVolumes although creation is deferred, %v", len(dvs.Items), err)
	}
}

// An import that fails again and again is the reason why a VM does not start, also when the VM did not make the DataVolume.
func TestOthersDataVolume(t *testing.T) {
	dv := &cdi.DataVolume{ObjectMeta: metav1.ObjectMeta{Namespace: "lab", Name: "golden"}}
	dv.Status.Phase = cdi.ImportInProgress
	w := watcher(t, true, nil, dv)
	vm := machine(nil)
	vm.Spec.DataVolumeTemplates = nil
	vm.Spec.Template.Spec.Volumes = []v1.Volume{{Name: "root", VolumeSource: v1.VolumeSource{DataVolume: &v1.DataVolumeSource{Name: "golden"}}}}
	if p, err := w.Ensure(context.Background(), vm); err != nil || p.Failed || !p.Ready {
		t.Errorf("while it is imported: %+v, %v", p, err)
	}
	dv.Status.Conditions = []cdi.DataVolumeCondition{{Type: cdi.DataVolumeRunning, Status: corev1.ConditionFalse, Reason: "Error", Message: "no such host"}}
	w = watcher(t, true, nil, dv)
	if p, err := w.Ensure(context.Background(), vm); err != nil || !p.Failed || p.Why != "DataVolume golden: no such host" {
		t.Errorf("when the import failed: %+v, %v", p, err)
	}
}

// A controller that was started a moment ago must not take an import under way for a disk that is ready.
func TestNotKnownYet(t *testing.T) {
	dv := &cdi.DataVolume{ObjectMeta: metav1.ObjectMeta{Namespace: "lab", Name: "root"}}
	dv.Status.Phase = cdi.ImportInProgress
	w := watcher(t, true, nil, dv)
	settled := make(chan struct{})
	w.available, w.settled = func() bool { return false }, settled
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if ready, _, err := w.Progress(gone, "lab", "root"); ready || err == nil {
		t.Errorf("before it has looked: ready %v, %v", ready, err)
	}
	if p, err := w.Ensure(gone, machine(nil)); p.Ready || err == nil {
		t.Errorf("before it has looked: %+v, %v", p, err)
	}
	close(settled)
	if ready, _, err := w.Progress(context.Background(), "lab", "root"); !ready || err != nil {
		t.Errorf("without DataVolumes only the claim counts: ready %v, %v", ready, err)
	}
}
