package vm

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	"kubevirt.io/api/instancetype/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/clusterconfig"
)

// The whole life of a VM costs six writes of ours beside the VMI's, and one event.
func TestLife(t *testing.T) {
	w := newWorld(t, newVM(v1.RunStrategyAlways, func(vm *v1.VirtualMachine) {
		vm.Annotations = map[string]string{clusterconfig.EmulationAnnotation: "true"}
		vm.Spec.Template.ObjectMeta.Labels = map[string]string{"app": "web"}
	}))
	w.reconcile()
	w.expect(v1.VirtualMachineStatusStarting)
	vmi := w.vmi()
	if !metav1.IsControlledBy(vmi, w.vm()) || vmi.Labels["app"] != "web" || vmi.Annotations[clusterconfig.EmulationAnnotation] != "true" ||
		vmi.Annotations[v1.VirtualMachineGenerationAnnotation] != "1" || vmi.Status.VirtualMachineRevisionName != "revision-start-vm-"+vmUID+"-1" {
		t.Errorf("VMI %+v %+v", vmi.ObjectMeta, vmi.Status)
	}
	w.reconcile()
	notReady := v1.VirtualMachineInstanceCondition{
		Type: v1.VirtualMachineInstanceReady, Status: corev1.ConditionFalse, Reason: v1.GuestNotRunningReason,
		Message: "Guest VM is not reported as running",
	}
	w.phase(v1.Scheduling, notReady)
	w.reconcile()
	w.phase(v1.Running, notReady)
	if result := w.reconcile(); result.RequeueAfter <= 0 {
		t.Error("the status does not wait for the readiness that is about to follow")
	}
	w.phase(v1.Running, ready)
	w.reconcile()
	w.expect(v1.VirtualMachineStatusRunning)
	s := w.vm().Status
	if !s.Created || !s.Ready || s.ObservedGeneration != 1 || s.DesiredGeneration != 1 || s.RunStrategy != v1.RunStrategyAlways {
		t.Errorf("status %+v", s)
	}
	w.reconcile()
	w.deleteVM()
	w.now = w.vm().DeletionTimestamp.Time
	w.reconcile()
	w.reconcile()
	w.vmiGone()
	w.reconcile()
	if w.vm() != nil {
		t.Error("the VM stays although its VMI is gone")
	}
	w.reconcile()
	// The status is written twice: Starting, and Running with its readiness.
	want := "create ControllerRevision,create VirtualMachineInstance,patch status VirtualMachine,patch status VirtualMachine,delete VirtualMachineInstance,patch VirtualMachine"
	if got := strings.Join(w.writes, ","); got != want {
		t.Errorf("writes:\n got %s\nwant %s", got, want)
	}
	if told := w.told(); strings.Contains(told, "\n") || !strings.Contains(told, reasonCreated) {
		t.Errorf("events: %s", told)
	}
	if len(w.r.known) != 0 {
		t.Errorf("a VM that is gone is remembered: %v", w.r.known)
	}
}

// A VM whose strategy is Halted only gets a status.
func TestHalted(t *testing.T) {
	w := newWorld(t, newVM(v1.RunStrategyHalted))
	w.reconcile()
	w.reconcile()
	w.expect(v1.VirtualMachineStatusStopped)
	if c := vmCondition(w.vm(), v1.VirtualMachineReady); c.Status != corev1.ConditionFalse || c.Reason != "VMINotExists" {
		t.Errorf("Ready %+v", c)
	}
	if len(w.writes) != 1 {
		t.Errorf("writes %v", w.writes)
	}
}

func start(data map[string]string) v1.VirtualMachineStateChangeRequest {
	return v1.VirtualMachineStateChangeRequest{Action: v1.StartRequest, Data: data}
}

func stop(uid types.UID) v1.VirtualMachineStateChangeRequest {
	return v1.VirtualMachineStateChangeRequest{Action: v1.StopRequest, UID: &uid}
}

// Start, restart and stop of a Manual VM by request; each request is taken once.
func TestManual(t *testing.T) {
	w := newWorld(t, newVM(v1.RunStrategyManual))
	w.reconcile()
	if w.vmi() != nil {
		t.Fatal("started without a request")
	}
	w.request(start(nil))
	w.reconcile()
	first := w.vmi()
	if first == nil || len(w.vm().Status.StateChangeRequests) != 0 {
		t.Fatalf("VMI %v, requests %v", first, w.vm().Status.StateChangeRequests)
	}
	w.phase(v1.Running, ready)
	w.reconcile()
	w.request(stop(first.UID), start(nil))
	w.reconcile()
	w.reconcile()
	w.expect(v1.VirtualMachineStatusStopping)
	w.vmiGone()
	w.reconcile()
	second := w.vmi()
	if second == nil || second.UID == first.UID || len(w.vm().Status.StateChangeRequests) != 0 {
		t.Fatalf("after the restart: VMI %v, requests %v", second, w.vm().Status.StateChangeRequests)
	}
	w.request(stop(first.UID)) // late, for the VMI before
	w.reconcile()
	w.reconcile()
	if w.vmi().DeletionTimestamp != nil || len(w.vm().Status.StateChangeRequests) != 0 {
		t.Error("a request to stop another VMI is taken for this one, or stays")
	}
	w.phase(v1.Succeeded)
	w.reconcile()
	w.reconcile()
	if w.vmi() == nil || w.vmi().DeletionTimestamp != nil {
		t.Error("a Manual VM that powered itself off keeps its VMI")
	}
	w.expect(v1.VirtualMachineStatusStopped)
}

// A guest that fails under RerunOnFailure comes back, one that powers off does not; nothing is lost when a write fails.
func TestRerunOnFailure(t *testing.T) {
	w := newWorld(t, newVM(v1.RunStrategyRerunOnFailure))
	w.reconcile()
	w.phase(v1.Running, ready)
	w.reconcile()
	w.phase(v1.Failed)
	w.refuse = func(verb string, _ client.Object) error {
		if verb == "patch status" {
			return errors.New("API server is restarting")
		}
		return nil
	}
	if _, err := w.try(); err == nil || w.vmi().DeletionTimestamp != nil {
		t.Fatalf("the failed VMI went before the restart was queued (%v)", err)
	}
	w.refuse = nil
	w.reconcile()
	if w.vmi().DeletionTimestamp == nil || !startQueued(w.vm()) {
		t.Fatalf("VMI %v, requests %v", w.vmi(), w.vm().Status.StateChangeRequests)
	}
	w.vmiGone()
	w.reconcile()
	if w.vmi() == nil {
		t.Fatal("not started again")
	}
	w.phase(v1.Running, ready)
	w.reconcile()
	w.phase(v1.Succeeded)
	w.reconcile()
	w.vmiGone()
	w.reconcile()
	w.reconcile()
	if w.vmi() != nil {
		t.Error("a guest that powered itself off was started again")
	}
	w.expect(v1.VirtualMachineStatusStopped)
}

// A VM that fails before it runs is tried again, later each time.
func TestBackOff(t *testing.T) {
	w := newWorld(t, newVM(v1.RunStrategyAlways))
	w.reconcile()
	for n, want := range []time.Duration{10 * time.Second, 40 * time.Second} {
		w.phase(v1.Failed)
		w.reconcile()
		w.reconcile()
		w.vmiGone()
		result := w.reconcile()
		w.expect(v1.VirtualMachineStatusCrashLoopBackOff)
		if f := w.vm().Status.StartFailure; f.ConsecutiveFailCount != n+1 || result.RequeueAfter != want {
			t.Fatalf("after failure %d: %+v, look again after %v", n+1, f, result.RequeueAfter)
		}
		if w.vmi() != nil {
			t.Fatal("started too early")
		}
		w.now = w.now.Add(result.RequeueAfter)
		w.reconcile()
		w.expect(v1.VirtualMachineStatusStarting)
	}
	w.phase(v1.Running, ready)
	w.reconcile()
	if w.vm().Status.StartFailure != nil {
		t.Error("a running VM is still counted as failing")
	}
	w.phase(v1.Failed)
	w.reconcile()
	w.vmiGone()
	w.reconcile()
	if w.vmi() == nil {
		t.Error("a crash of a guest that had run delays its restart")
	}
}

// `virtctl start --paused` on a halted VM.
func TestPausedStart(t *testing.T) {
	w := newWorld(t, newVM(v1.RunStrategyHalted))
	w.reconcile()
	w.request(start(map[string]string{"paused": "true"}))
	w.reconcile()
	if got := *w.vm().Spec.RunStrategy; got != v1.RunStrategyAlways {
		t.Fatalf("run strategy %s", got)
	}
	w.reconcile()
	vmi := w.vmi()
	if vmi == nil || !vmi.ShouldStartPaused() || len(w.vm().Status.StateChangeRequests) != 0 {
		t.Errorf("VMI %+v, requests %v", vmi, w.vm().Status.StateChangeRequests)
	}
}

// Changes that do not reach the guest are announced, until they are taken back or the VM is restarted.
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
	var revisions appsv1.ControllerRevisionList
	if err := w.c.List(context.Background(), &revisions); err != nil || len(revisions.Items) != 1 || revisions.Items[0].Revision != 4 {
		t.Errorf("revisions %v, %v", revisions.Items, err)
	}
}

// An old cache must not make the VM believe that its VMI is gone, nor make a second one.
func TestOldCache(t *testing.T) {
	w := newWorld(t, newVM(v1.RunStrategyManual))
	w.request(start(nil))
	w.reconcile()
	w.blind = true
	w.edit(func(vm *v1.VirtualMachine) { vm.Labels = map[string]string{"touched": "yes"} })
	w.reconcile()
	w.expect(v1.VirtualMachineStatusStarting)

	// A second controller, just become leader, knows nothing of what the first one did.
	vm := w.vm()
	w.r = New(w.r.Options)
	always := v1.RunStrategyAlways
	vm.Spec.RunStrategy = &always
	if err := w.c.Update(context.Background(), vm); err != nil {
		t.Fatal(err)
	}
	w.reconcile()
	w.expect(v1.VirtualMachineStatusStarting)
	if w.uids != 2 { // the second create was refused
		t.Errorf("%d VMIs were asked for", w.uids)
	}
}

// A VMI of the same name that belongs to nobody is adopted; one that belongs to somebody else is left alone, and the VM says so.
func TestForeignVMI(t *testing.T) {
	orphan := &v1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, UID: "orphan"}}
	orphan.Status.Phase, orphan.Status.Conditions = v1.Running, []v1.VirtualMachineInstanceCondition{ready}
	w := newWorld(t, newVM(v1.RunStrategyAlways), orphan)
	w.reconcile()
	if !metav1.IsControlledBy(w.vmi(), w.vm()) {
		t.Errorf("not adopted: %v", w.vmi().OwnerReferences)
	}
	w.expect(v1.VirtualMachineStatusRunning)

	other := orphan.DeepCopy()
	yes := true
	other.OwnerReferences = []metav1.OwnerReference{{APIVersion: "kubevirt.io/v1", Kind: "VirtualMachine", Name: "web", UID: "another", Controller: &yes}}
	w = newWorld(t, newVM(v1.RunStrategyHalted), other)
	w.reconcile()
	if c := vmCondition(w.vm(), v1.VirtualMachineFailure); c.Status != corev1.ConditionTrue || !strings.Contains(c.Message, "does not belong") {
		t.Errorf("Failure %+v", c)
	}
	w.deleteVM()
	w.reconcile()
	if w.vm() != nil || w.vmi() == nil {
		t.Errorf("VM %v, foreign VMI %v", w.vm(), w.vmi())
	}
}

// A VMI that cannot be made is tried again, and the VM says why, once.
func TestStartRefused(t *testing.T) {
	w := newWorld(t, newVM(v1.RunStrategyAlways))
	w.refuse = func(verb string, obj client.Object) error {
		if _, ok := obj.(*v1.VirtualMachineInstance); ok && verb == "create" {
			return apierrors.NewInvalid(v1.VirtualMachineInstanceGroupVersionKind.GroupKind(), "web", nil)
		}
		return nil
	}
	for range 3 {
		if _, err := w.try(); err == nil {
			t.Fatal("it should be tried again")
		}
	}
	if c := vmCondition(w.vm(), v1.VirtualMachineFailure); c.Reason != reasonCreateFailed || !strings.Contains(c.Message, "is invalid") {
		t.Errorf("Failure %+v", c)
	}
	if told := w.told(); strings.Count(told, reasonCreateFailed) != 1 {
		t.Errorf("events %q", told)
	}
	w.refuse = nil
	w.reconcile()
	if vmCondition(w.vm(), v1.VirtualMachineFailure).Status != "" || w.vmi() == nil {
		t.Errorf("after recovery: %+v", w.vm().Status.Conditions)
	}
}

// A VMI deleted behind the VM's back comes back when the strategy wants it.
func TestVMIDeletedByUser(t *testing.T) {
	for strategy, back := range map[v1.VirtualMachineRunStrategy]bool{
		v1.RunStrategyAlways: true, v1.RunStrategyManual: false, v1.RunStrategyRerunOnFailure: false,
	} {
		w := newWorld(t, newVM(strategy))
		w.request(start(nil))
		w.reconcile()
		w.phase(v1.Running, ready)
		w.reconcile()
		if err := w.c.Delete(context.Background(), w.vmi()); err != nil {
			t.Fatal(err)
		}
		w.reconcile()
		w.expect(v1.VirtualMachineStatusStopping)
		w.vmiGone()
		w.reconcile()
		if got := w.vmi() != nil; got != back {
			t.Errorf("%s: started again: %v", strategy, got)
		}
	}
}

// `kubectl delete vm --cascade=orphan` leaves the guest running.
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

// Without CDI a VM with DataVolume templates says what is missing; with it, it waits until they are filled.
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

// Admission that was away: the controller adds the finalizer.
func TestWithoutAdmission(t *testing.T) {
	w := newWorld(t, newVM(v1.RunStrategyHalted, func(vm *v1.VirtualMachine) { vm.Finalizers = nil }))
	w.reconcile()
	if got := w.vm().Finalizers; len(got) != 1 || len(w.writes) != 2 {
		t.Errorf("finalizers %v, writes %v", got, w.writes)
	}
	w.expect(v1.VirtualMachineStatusStopped)
}

// Slow deletions are shown.
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
}

// Conditions of the VMI are the VM's as well, and go with it.
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

// A VM keeps the instance type as it was when it first used it.
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

// Stopping a VM costs two writes of its status: that it stops, and that it has stopped. So does pausing: one for each.
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

// A namespace that is being removed takes no VMIs, and that is nobody's failure.
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

// A VM that starts as it should is told about once, when it runs; one that does not is told about at once.
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
	if len(w.writes) != 3 {
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
