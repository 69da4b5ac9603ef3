package vm

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/clusterconfig"
)

// The whole life of a VM costs five writes of ours beside the VMI's, and one event.
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
	want := "create VirtualMachineInstance,patch status VirtualMachine,patch status VirtualMachine,delete VirtualMachineInstance,patch VirtualMachine"
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
// Without CDI a VM with DataVolume templates says what is missing; with it, it waits until they are filled.
// Admission that was away: the controller adds the finalizer.
// Slow deletions are shown.
// Conditions of the VMI are the VM's as well, and go with it.
// A VM keeps the instance type as it was when it first used it.
// Stopping a VM costs two writes of its status: that it stops, and that it has stopped. So does pausing: one for each.
// A namespace that is being removed takes no VMIs, and that is nobody's failure.
// A VM that starts as it should is told about once, when it runs; one that does not is told about at once.
