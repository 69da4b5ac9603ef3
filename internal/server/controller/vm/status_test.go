package vm

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
	"kubevirt.io/api/instancetype/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/server/controller/launcherpod"
)

func TestRestartRequired(t *testing.T) {
	w := newWorld(t, newVM(v1.RunStrategyAlways))
	w.reconcile()
	w.phase(v1.Running, ready)
	w.reconcile()
	required := func() bool {
		return vmCondition(w.vm(), v1.VirtualMachineRestartRequired).Status == corev1.ConditionTrue
	}
	w.edit(func(vm *v1.VirtualMachine) { vm.Spec.Template.Spec.Hostname = "other" })
	w.reconcile()
	if s := w.vm().Status; !required() || s.ObservedGeneration != 1 || s.DesiredGeneration != 2 {
		t.Errorf("status %+v", s)
	}
	// What it was started with is written down, now that the VM says something else.
	w.revisions(1)
	w.reconcile()
	w.edit(func(vm *v1.VirtualMachine) { vm.Spec.Template.Spec.Hostname = "" })
	w.reconcile()
	if s := w.vm().Status; required() || s.ObservedGeneration != 3 {
		t.Errorf("the change was taken back: %+v", s)
	}
	w.edit(func(vm *v1.VirtualMachine) { vm.Spec.Template.Spec.Hostname = "other" })
	w.reconcile()
	w.request(stop(w.vmi().UID), start(nil))
	w.reconcile()
	w.vmiGone()
	w.reconcile()
	if required() || w.vmi().Spec.Hostname != "other" {
		t.Errorf("after the restart: %+v, hostname %q", w.vm().Status.Conditions, w.vmi().Spec.Hostname)
	}
	w.revisions()
	w.edit(func(vm *v1.VirtualMachine) { vm.Spec.Template.Spec.Hostname = "third" })
	w.reconcile()
	w.revisions(4)
}

// A label in the template is for the next start: it asks for no restart, and the machine that runs has not got it.
func TestTemplateLabels(t *testing.T) {
	w := newWorld(t, newVM(v1.RunStrategyAlways))
	w.reconcile()
	w.phase(v1.Running, ready)
	w.reconcile()
	w.edit(func(vm *v1.VirtualMachine) { vm.Spec.Template.ObjectMeta.Labels = map[string]string{"tier": "gold"} })
	w.reconcile()
	s := w.vm().Status
	if s.ObservedGeneration != 1 || s.DesiredGeneration != 2 {
		t.Errorf("status %+v", s)
	}
	if c := vmCondition(w.vm(), v1.VirtualMachineRestartRequired); c.Status == corev1.ConditionTrue {
		t.Errorf("condition %+v", c)
	}
}

// A VM from before the annotations keeps its PCI devices where its guest knows them; that is no change of the machine.
func TestKeepTopology(t *testing.T) {
	w := newWorld(t, newVM(v1.RunStrategyAlways))
	w.reconcile()
	vmi := w.vmi()
	vmi.Annotations[v1.PciTopologyVersionAnnotation] = v1.PciTopologyVersionV3
	if err := w.c.Update(context.Background(), vmi); err != nil {
		t.Fatal(err)
	}
	w.phase(v1.Running, ready)
	w.reconcile()
	if got := w.vm().Spec.Template.ObjectMeta.Annotations[v1.PciTopologyVersionAnnotation]; got != v1.PciTopologyVersionV3 {
		t.Fatalf("the template has %q", got)
	}
	w.edit(func(*v1.VirtualMachine) {})
	w.reconcile()
	if s := w.vm().Status; s.ObservedGeneration != w.vm().Generation || vmCondition(w.vm(), v1.VirtualMachineRestartRequired).Status == corev1.ConditionTrue {
		t.Errorf("status %+v", s)
	}
}

// revisions are the generations that ControllerRevisions hold.
func (w *world) revisions(want ...int64) {
	w.t.Helper()
	var list appsv1.ControllerRevisionList
	if err := w.c.List(context.Background(), &list); err != nil {
		w.t.Fatal(err)
	}
	var got []int64
	for _, r := range list.Items {
		got = append(got, r.Revision)
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("revisions %v, want %v", got, want)
	}
}

// A spec too long for an annotation is written down at the start.
func TestLongSpecIsKeptAtOnce(t *testing.T) {
	w := newWorld(t, newVM(v1.RunStrategyAlways, func(vm *v1.VirtualMachine) {
		vm.Spec.Template.ObjectMeta.Annotations = map[string]string{"note": strings.Repeat("x", maxStartedFrom)}
	}))
	w.reconcile()
	w.revisions(1)
	if w.vmi().Annotations[launcherpod.StartedFrom] != "" {
		t.Error("the annotation is longer than it may be")
	}
	w.phase(v1.Running, ready)
	w.edit(func(vm *v1.VirtualMachine) { vm.Spec.Template.Spec.Hostname = "other" })
	w.reconcile()
	if c := vmCondition(w.vm(), v1.VirtualMachineRestartRequired); c.Status != corev1.ConditionTrue {
		t.Errorf("%+v", c)
	}
}

// A guest that is soon on its new node is no news of its VM; one that takes longer is.
func TestQuickMove(t *testing.T) {
	w := newWorld(t, newVM(v1.RunStrategyAlways))
	w.reconcile()
	w.phase(v1.Running, ready)
	w.reconcile()
	w.expect(v1.VirtualMachineStatusRunning)
	began := metav1.NewTime(w.now)
	move := func(state v1.VirtualMachineInstanceMigrationState) {
		vmi := w.vmi()
		vmi.Status.MigrationState = &state
		if err := w.c.Update(context.Background(), vmi); err != nil {
			t.Fatal(err)
		}
	}
	before := len(w.writes)
	move(v1.VirtualMachineInstanceMigrationState{MigrationUID: "m", StartTimestamp: &began})
	result := w.reconcile()
	move(v1.VirtualMachineInstanceMigrationState{MigrationUID: "m", StartTimestamp: &began, Completed: true})
	w.reconcile()
	if result.RequeueAfter <= 0 || len(w.writes) != before {
		t.Errorf("look again after %v, writes %v", result.RequeueAfter, w.writes[before:])
	}
	move(v1.VirtualMachineInstanceMigrationState{MigrationUID: "n", StartTimestamp: &began})
	w.now = w.now.Add(w.reconcile().RequeueAfter)
	w.reconcile()
	w.expect(v1.VirtualMachineStatusMigrating)
}

func TestOrphan(t *testing.T) {
	w := newWorld(t, newVM(v1.RunStrategyAlways, func(vm *v1.VirtualMachine) {
		vm.Finalizers = append(vm.Finalizers, metav1.FinalizerOrphanDependents)
	}))
	w.reconcile()
	w.deleteVM()
	w.reconcile()
	if w.vmi() == nil || w.vmi().DeletionTimestamp != nil {
		t.Error("the VMI went with its VM")
	}
	if got := w.vm().Finalizers; len(got) != 1 || got[0] != metav1.FinalizerOrphanDependents {
		t.Errorf("finalizers %v", got)
	}
}

func TestDataVolumeTemplates(t *testing.T) {
	template := func(vm *v1.VirtualMachine) {
		vm.Spec.DataVolumeTemplates = []v1.DataVolumeTemplateSpec{{ObjectMeta: metav1.ObjectMeta{Name: "root"}}}
	}
	w := newWorld(t, newVM(v1.RunStrategyAlways, template))
	w.reconcile()
	w.expect(v1.VirtualMachineStatusDataVolumeError)
	data := &progress{Progress{Why: "import of root: 40%"}}
	w.r.DataVolumes = data
	w.edit(func(*v1.VirtualMachine) {})
	w.reconcile()
	w.expect(v1.VirtualMachineStatusProvisioning)
	data.p = Progress{Ready: true}
	w.reconcile()
	w.expect(v1.VirtualMachineStatusStarting)
}

type progress struct{ p Progress }

func (d *progress) Ensure(context.Context, *v1.VirtualMachine) (Progress, error) { return d.p, nil }

func TestWithoutAdmission(t *testing.T) {
	w := newWorld(t, newVM(v1.RunStrategyHalted, func(vm *v1.VirtualMachine) { vm.Finalizers = nil }))
	w.reconcile()
	if got := w.vm().Finalizers; len(got) != 1 || len(w.writes) != 2 {
		t.Errorf("finalizers %v, writes %v", got, w.writes)
	}
	w.expect(v1.VirtualMachineStatusStopped)
}

func TestSlowDeletion(t *testing.T) {
	w := newWorld(t, newVM(v1.RunStrategyAlways))
	w.reconcile()
	w.deleteVM()
	w.now = w.vm().DeletionTimestamp.Time
	result := w.reconcile()
	w.expect(v1.VirtualMachineStatusStarting)
	w.now = w.now.Add(result.RequeueAfter + time.Millisecond)
	w.reconcile()
	w.expect(v1.VirtualMachineStatusTerminating)
	before := len(w.writes)
	w.phase(v1.Succeeded)
	w.reconcile()
	if len(w.writes) != before {
		t.Errorf("more than that is written: %v", w.writes[before:])
	}
}

func TestMirror(t *testing.T) {
	w := newWorld(t, newVM(v1.RunStrategyManual))
	w.request(start(nil))
	w.reconcile()
	w.phase(v1.Running, ready, v1.VirtualMachineInstanceCondition{Type: v1.VirtualMachineInstanceIsMigratable, Status: corev1.ConditionFalse, Reason: "DisksNotLiveMigratable"})
	w.reconcile()
	if c := vmCondition(w.vm(), "LiveMigratable"); c.Reason != "DisksNotLiveMigratable" {
		t.Errorf("condition %+v", c)
	}
	w.request(stop(w.vmi().UID))
	w.reconcile()
	w.vmiGone()
	w.reconcile()
	if c := vmCondition(w.vm(), "LiveMigratable"); c.Status != "" {
		t.Errorf("still there: %+v", c)
	}
}

func TestInstancetype(t *testing.T) {
	small := &v1beta1.VirtualMachineClusterInstancetype{ObjectMeta: metav1.ObjectMeta{Name: "small", UID: "it", Generation: 1}}
	small.Spec.CPU.Guest, small.Spec.Memory.Guest = 2, resource.MustParse("256Mi")
	w := newWorld(t, small, newVM(v1.RunStrategyManual, func(vm *v1.VirtualMachine) {
		vm.Spec.Template.Spec.Domain.Memory = nil
		vm.Spec.Instancetype = &v1.InstancetypeMatcher{Name: "small"}
	}))
	guest := func() string { return w.vmi().Spec.Domain.Memory.Guest.String() }
	w.request(start(nil))
	w.reconcile()
	ref := w.vm().Status.InstancetypeRef
	if guest() != "256Mi" || w.vmi().Annotations[v1.ClusterInstancetypeAnnotation] != "small" || ref == nil || ref.ControllerRevisionRef == nil {
		t.Fatalf("guest memory %s, annotations %v, reference %+v", guest(), w.vmi().Annotations, ref)
	}
	if err := w.c.Get(context.Background(), client.ObjectKeyFromObject(small), small); err != nil {
		t.Fatal(err)
	}
	small.Spec.Memory.Guest, small.Generation = resource.MustParse("1Gi"), 2
	if err := w.c.Update(context.Background(), small); err != nil {
		t.Fatal(err)
	}
	w.request(stop(w.vmi().UID), start(nil))
	w.reconcile()
	w.vmiGone()
	w.reconcile()
	if guest() != "256Mi" {
		t.Errorf("guest memory %s after the instance type was changed", guest())
	}

	w = newWorld(t, newVM(v1.RunStrategyAlways, func(vm *v1.VirtualMachine) { vm.Spec.Instancetype = &v1.InstancetypeMatcher{Name: "none"} }))
	if _, err := w.try(); err == nil {
		t.Error("an unknown instance type should be tried again")
	}
	if c := vmCondition(w.vm(), v1.VirtualMachineFailure); !strings.Contains(c.Message, "none") {
		t.Errorf("Failure %+v", c)
	}
}

func TestWritesOfStopAndPause(t *testing.T) {
	w := newWorld(t, newVM(v1.RunStrategyManual))
	w.request(start(nil))
	w.reconcile()
	w.phase(v1.Running, ready)
	w.reconcile()
	before := len(w.writes)
	paused := v1.VirtualMachineInstanceCondition{Type: v1.VirtualMachineInstancePaused, Status: corev1.ConditionTrue, Reason: "PausedByUser"}
	w.phase(v1.Running, paused)
	w.reconcile()
	w.phase(v1.Running, v1.VirtualMachineInstanceCondition{Type: v1.VirtualMachineInstanceReady, Status: corev1.ConditionFalse, Reason: gateClosed})
	w.reconcile()
	w.expect(v1.VirtualMachineStatusPaused)
	if got := w.writes[before:]; len(got) != 1 {
		t.Errorf("pausing: %v", got)
	}
	w.request(stop(w.vmi().UID))
	before = len(w.writes)
	w.reconcile()
	w.expect(v1.VirtualMachineStatusStopping)
	w.now = w.vmi().DeletionTimestamp.Time
	w.reconcile()
	w.phase(v1.Succeeded)
	if result := w.reconcile(); result.RequeueAfter <= 0 {
		t.Error("nobody looks again should the VMI stay")
	}
	w.vmiGone()
	w.reconcile()
	w.expect(v1.VirtualMachineStatusStopped)
	if got := w.writes[before:]; len(got) != 3 { // two of the status, one delete
		t.Errorf("stopping: %v", got)
	}
}

func TestNamespaceGoes(t *testing.T) {
	w := newWorld(t, newVM(v1.RunStrategyAlways))
	w.refuse = func(verb string, _ client.Object) error {
		if verb != "create" {
			return nil
		}
		err := apierrors.NewForbidden(appsv1.Resource("controllerrevisions"), "x", errors.New("it is being terminated"))
		err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
		return err
	}
	w.reconcile()
	if told := w.told(); told != "" || vmCondition(w.vm(), v1.VirtualMachineFailure).Status != "" {
		t.Errorf("events %q, conditions %+v", told, w.vm().Status.Conditions)
	}
}

func TestQuickStart(t *testing.T) {
	w := newWorld(t, newVM(v1.RunStrategyAlways))
	w.vmisAge = true
	if result := w.reconcile(); result.RequeueAfter <= 0 || w.vm().Status.PrintableStatus != "" {
		t.Fatalf("look again after %v, status %q", result.RequeueAfter, w.vm().Status.PrintableStatus)
	}
	w.phase(v1.Running) // its readiness is still to come
	w.reconcile()
	w.phase(v1.Running, ready)
	w.reconcile()
	w.expect(v1.VirtualMachineStatusRunning)
	if len(w.writes) != 2 {
		t.Errorf("writes %v", w.writes)
	}

	w = newWorld(t, newVM(v1.RunStrategyAlways))
	w.vmisAge = true
	w.reconcile()
	w.phase(v1.Pending, no(v1.VirtualMachineInstanceSynchronized, "FailedPvcNotFound"))
	w.reconcile()
	w.expect(v1.VirtualMachineStatusPvcNotFound)

	w = newWorld(t, newVM(v1.RunStrategyAlways))
	w.vmisAge = true
	w.now = w.now.Add(w.reconcile().RequeueAfter)
	w.reconcile()
	w.expect(v1.VirtualMachineStatusStarting)

	w = newWorld(t, newVM(v1.RunStrategyManual))
	w.vmisAge = true
	w.request(start(nil))
	w.reconcile()
	w.expect(v1.VirtualMachineStatusStarting) // the request is no longer queued
}
