package vmi

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/server/controller/condition"
)

func TestPaused(t *testing.T) {
	w := newWorld(t, newVMI())
	w.reconcile()
	w.podStatus(running)
	w.edit(func(vmi *v1.VirtualMachineInstance) { vmi.Status.Phase = v1.Running })
	w.reconcile()
	paused := v1.VirtualMachineInstanceCondition{Type: v1.VirtualMachineInstancePaused, Status: corev1.ConditionTrue, Reason: "PausedByUser"}
	w.edit(func(vmi *v1.VirtualMachineInstance) { condition.Set(vmi, paused, w.now) })
	w.reconcile()
	if gate := podCondition(w.pod(), v1.VirtualMachineUnpaused); gate.Status != corev1.ConditionFalse || gate.Reason != "Paused" {
		t.Errorf("gate %+v", gate)
	}
	if !condition.Is(w.vmi(), v1.VirtualMachineInstanceReady, corev1.ConditionFalse) {
		t.Error("a paused guest is ready")
	}
	w.edit(func(vmi *v1.VirtualMachineInstance) { condition.Remove(vmi, v1.VirtualMachineInstancePaused) })
	w.reconcile()
	if !condition.Is(w.vmi(), v1.VirtualMachineInstanceReady, corev1.ConditionTrue) {
		t.Error("a resumed guest is not ready")
	}
}

// An eviction shows on the VMI and on its pod, where the descheduler looks, until it is taken back.
func TestEvictionShows(t *testing.T) {
	w := newWorld(t, newVMI())
	w.reconcile()
	w.podStatus(running)
	w.edit(func(vmi *v1.VirtualMachineInstance) { vmi.Status.Phase = v1.Running })
	w.reconcile()
	shows := func(want bool) {
		t.Helper()
		_, annotated := w.pod().Annotations[evictionInProgress]
		if c := condition.Is(w.vmi(), v1.VirtualMachineInstanceEvictionRequested, corev1.ConditionTrue); c != want || annotated != want {
			t.Errorf("condition %t, pod annotated %t, want %t", c, annotated, want)
		}
	}
	shows(false)
	w.edit(func(vmi *v1.VirtualMachineInstance) {
		vmi.Status.NodeName, vmi.Status.EvacuationNodeName = "node01", "node01"
	})
	w.reconcile()
	shows(true)
	w.reconcile()
	shows(true)
	w.edit(func(vmi *v1.VirtualMachineInstance) { vmi.Status.EvacuationNodeName = "" })
	w.reconcile()
	shows(false)
}

func TestGracePeriod(t *testing.T) {
	w := newWorld(t, newVMI())
	w.reconcile()
	pod := w.pod()
	grace := int64(45)
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &metav1.Time{Time: w.now}, &grace
	vmi := newVMI()
	var deletes int
	w.refuse = func(verb string, _ client.Object) error {
		if verb == "delete" {
			deletes++
		}
		return nil
	}
	if err := w.r.deletePod(context.Background(), vmi, pod); err != nil || deletes != 0 {
		t.Fatalf("a pod that is going was deleted again: %d, %v", deletes, err)
	}
	zero := int64(0)
	vmi.Spec.TerminationGracePeriodSeconds = &zero
	for range 2 {
		if err := w.r.deletePod(context.Background(), vmi, pod); err != nil {
			t.Fatal(err)
		}
	}
	if deletes != 1 {
		t.Errorf("a shorter grace period led to %d deletes", deletes)
	}
}

func TestStop(t *testing.T) {
	for _, slow := range []bool{false, true} {
		w := newWorld(t, newVMI())
		w.reconcile()
		w.podStatus(running)
		w.edit(func(vmi *v1.VirtualMachineInstance) { vmi.Status.Phase = v1.Running })
		w.reconcile()
		pod := w.pod()
		pod.Finalizers = []string{"test/kubelet-tidies-up"}
		if err := w.c.Update(context.Background(), pod); err != nil {
			t.Fatal(err)
		}
		var graces []int64
		w.deleted = func(o *client.DeleteOptions) { graces = append(graces, *o.GracePeriodSeconds) }
		w.deleteVMI()
		w.now = w.vmi().DeletionTimestamp.Time
		result := w.reconcile()
		if len(graces) != 0 || result.RequeueAfter <= 0 {
			t.Fatalf("deleted with %v, look again after %v", graces, result.RequeueAfter)
		}
		want := int64(0)
		if slow {
			w.now = w.now.Add(result.RequeueAfter)
			want = 45
		} else {
			w.podStatus(func(s *corev1.PodStatus) {
				ended(0, w.now)(s)
				s.Phase = corev1.PodRunning // kubelet changes it last
			})
		}
		w.reconcile()
		w.reconcile()
		if len(graces) != 1 || graces[0] != want {
			t.Errorf("slow %v: the pod was deleted with grace periods %v", slow, graces)
		}
	}
}

// virt-handler knows sooner than kubelet that the guest is ready; what it said is not taken back.
func TestReadyBeforeKubeletSaysSo(t *testing.T) {
	w := newWorld(t, newVMI())
	w.podsAge = true
	w.reconcile()
	w.edit(func(vmi *v1.VirtualMachineInstance) {
		vmi.Status.Phase = v1.Running
		condition.Set(vmi, v1.VirtualMachineInstanceCondition{Type: v1.VirtualMachineInstanceReady, Status: corev1.ConditionTrue}, w.now)
	})
	w.reconcile()
	if c := condition.Of(w.vmi(), v1.VirtualMachineInstanceReady); c.Status != corev1.ConditionTrue {
		t.Fatalf("taken back: %+v", c)
	}
	w.podStatus(running)
	w.reconcile()
	if c := condition.Of(w.vmi(), v1.VirtualMachineInstanceReady); c.Status != corev1.ConditionTrue {
		t.Errorf("taken back: %+v", c)
	}
	w.podStatus(func(s *corev1.PodStatus) {
		for i := range s.Conditions {
			if s.Conditions[i].Type == corev1.ContainersReady {
				s.Conditions[i].Status = corev1.ConditionFalse
			}
		}
	})
	w.reconcile()
	if c := condition.Of(w.vmi(), v1.VirtualMachineInstanceReady); c.Status != corev1.ConditionFalse {
		t.Errorf("a pod that is not ready any more: %+v", c)
	}
}

func TestQuickStart(t *testing.T) {
	w := newWorld(t, newVMI())
	w.podsAge = true
	result := w.reconcile()
	if len(w.writes) != 1 || result.RequeueAfter <= 0 {
		t.Fatalf("writes %v, look again after %v", w.writes, result.RequeueAfter)
	}
	w.podStatus(running)
	w.reconcile()
	w.edit(func(vmi *v1.VirtualMachineInstance) {
		vmi.Status.Phase = v1.Running
		vmi.Status.PhaseTransitionTimestamps = []v1.VirtualMachineInstancePhaseTransitionTimestamp{{Phase: v1.Pending}, {Phase: v1.Running}}
	})
	w.reconcile()
	vmi := w.vmi()
	times := vmi.Status.PhaseTransitionTimestamps
	if len(w.writes) != 3 || !condition.Is(vmi, v1.VirtualMachineInstanceReady, corev1.ConditionTrue) || vmi.Status.Memory.MemoryOverhead == nil ||
		len(times) != 3 || times[1].Phase != v1.Scheduling {
		t.Errorf("writes %v, status %+v", w.writes, vmi.Status)
	}

	w = newWorld(t, newVMI())
	w.podsAge = true
	w.reconcile()
	w.podStatus(waiting("ErrImagePull", "no such image"))
	w.reconcile()
	if vmi := w.vmi(); !vmi.IsScheduling() || condition.Reason(vmi, v1.VirtualMachineInstanceSynchronized) != "ErrImagePull" {
		t.Errorf("a problem is kept quiet: %+v", vmi.Status)
	}

	w = newWorld(t, newVMI())
	w.podsAge = true
	w.now = w.now.Add(w.reconcile().RequeueAfter)
	w.reconcile()
	if !w.vmi().IsScheduling() {
		t.Error("a slow start is kept quiet")
	}
}

func TestNamespaceGoes(t *testing.T) {
	w := newWorld(t, newVMI())
	w.refuse = func(verb string, obj client.Object) error {
		if verb != "create" {
			return nil
		}
		err := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "x", errors.New("it is being terminated"))
		err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
		return err
	}
	w.reconcile()
	if told := w.told(); told != "" || condition.Of(w.vmi(), v1.VirtualMachineInstanceSynchronized) != nil {
		t.Errorf("events %q, conditions %+v", told, w.vmi().Status.Conditions)
	}
}

func TestDeletedBeforePod(t *testing.T) {
	w := newWorld(t, newVMI(withClaim))
	w.reconcile()
	w.deleteVMI()
	w.reconcile()
	if w.vmi() != nil {
		t.Error("it stays")
	}
}

func TestSlowShutdown(t *testing.T) {
	w := newWorld(t, newVMI())
	w.reconcile()
	w.podStatus(running)
	w.edit(func(vmi *v1.VirtualMachineInstance) { vmi.Status.Phase = v1.Running })
	w.reconcile()
	pod := w.pod()
	pod.Finalizers = []string{"test/guest-shuts-down"}
	if err := w.c.Update(context.Background(), pod); err != nil {
		t.Fatal(err)
	}
	w.deleteVMI()
	w.now = w.vmi().DeletionTimestamp.Time
	w.now = w.now.Add(w.reconcile().RequeueAfter) // virt-handler's time is over
	result := w.reconcile()
	if w.pod().DeletionTimestamp == nil || result.RequeueAfter <= 0 || !condition.Is(w.vmi(), v1.VirtualMachineInstanceReady, corev1.ConditionTrue) {
		t.Errorf("look again after %v, conditions %+v", result.RequeueAfter, w.vmi().Status.Conditions)
	}
	w.now = w.now.Add(result.RequeueAfter + time.Millisecond)
	w.reconcile()
	if reason := condition.Reason(w.vmi(), v1.VirtualMachineInstanceReady); reason != v1.PodTerminatingReason {
		t.Errorf("Ready has reason %q", reason)
	}
}

func TestWithoutAdmission(t *testing.T) {
	w := newWorld(t, newVMI(func(vmi *v1.VirtualMachineInstance) {
		vmi.Finalizers, vmi.Status = nil, v1.VirtualMachineInstanceStatus{}
	}))
	w.reconcile()
	vmi := w.vmi()
	if len(vmi.Finalizers) != 1 || vmi.Status.Phase != v1.Scheduling || vmi.Status.RuntimeUser != 107 || len(vmi.Status.PhaseTransitionTimestamps) != 2 {
		t.Errorf("%v %+v", vmi.Finalizers, vmi.Status)
	}
	if len(w.writes) != 2 {
		t.Errorf("writes %v", w.writes)
	}
}

func TestUnrenderable(t *testing.T) {
	w := newWorld(t, newVMI(func(vmi *v1.VirtualMachineInstance) {
		vmi.Spec.Volumes = []v1.Volume{{Name: "h", VolumeSource: v1.VolumeSource{HostDisk: &v1.HostDisk{Path: "/d/disk.img"}}}}
	}))
	w.reconcile()
	if c := condition.Of(w.vmi(), v1.VirtualMachineInstanceSynchronized); c == nil || !strings.Contains(c.Message, "HostDisk") {
		t.Errorf("condition %+v", c)
	}
	if got := w.r.unstarted(context.Background(), nil); len(got) != 1 {
		t.Errorf("a change of the configuration wakes %v", got)
	}
}
