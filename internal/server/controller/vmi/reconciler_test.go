package vmi

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/server/controller/condition"
)

// The whole life of a VMI, and that it costs six writes of ours and one event. virt-handler adds its own.
func TestLife(t *testing.T) {
	w := newWorld(t, newVMI(withClaim), newClaim())
	w.reconcile()
	vmi, pod := w.vmi(), w.pod()
	if vmi.Status.Phase != v1.Scheduling || pod == nil {
		t.Fatalf("phase %s, pod %v", vmi.Status.Phase, pod)
	}
	info := vmi.Status.VolumeStatus[0].PersistentVolumeClaimInfo
	if info == nil || info.ClaimName != "data" || *info.VolumeMode != corev1.PersistentVolumeBlock || info.Capacity.Storage().String() != "1Gi" {
		t.Errorf("claim info %+v", info)
	}
	if vmi.Status.Memory.MemoryOverhead.IsZero() || vmi.Status.LauncherContainerImageVersion != image {
		t.Errorf("launcher: overhead %v, image %s", vmi.Status.Memory.MemoryOverhead, vmi.Status.LauncherContainerImageVersion)
	}
	if len(pod.Spec.Containers[0].VolumeDevices) != 1 {
		t.Errorf("a Block claim is not a device: %+v", pod.Spec.Containers[0])
	}
	w.podStatus(running)
	w.reconcile()
	w.edit(func(vmi *v1.VirtualMachineInstance) { vmi.Status.Phase = v1.Running })
	w.reconcile()
	if gate := podCondition(w.pod(), v1.VirtualMachineUnpaused); gate.Status != corev1.ConditionTrue {
		t.Errorf("the readiness gate is %q", gate.Status)
	}
	if !condition.Is(w.vmi(), v1.VirtualMachineInstanceReady, corev1.ConditionTrue) {
		t.Error("not ready although the guest runs and the containers are ready")
	}
	w.reconcile()
	w.deleteVMI()
	w.now = w.vmi().DeletionTimestamp.Time
	w.reconcile()
	w.podStatus(ended(0, w.now))
	w.reconcile()
	if w.pod() != nil {
		t.Error("the pod of a deleted VMI stays")
	}
	w.reconcile()
	if w.vmi() != nil {
		t.Error("a VMI without pods stays")
	}
	w.reconcile()
	want := "create *v1.Pod,patch *v1.VirtualMachineInstance,patch status *v1.Pod,patch *v1.VirtualMachineInstance,delete *v1.Pod,patch *v1.VirtualMachineInstance"
	if got := strings.Join(w.writes, ","); got != want {
		t.Errorf("writes:\n got %s\nwant %s", got, want)
	}
	if told := w.told(); strings.Contains(told, "\n") || !strings.Contains(told, reasonCreated) {
		t.Errorf("events: %s", told)
	}
}

// The most common life, of a VM's instance without claims, costs what cannot be told together: the pod, its readiness gate, its end and
// the VMI's own. virt-handler tells of the start in one write, and the VM's event is enough.
func TestWritesOfAnInstanceOfAVM(t *testing.T) {
	yes := true
	w := newWorld(t, newVMI(func(vmi *v1.VirtualMachineInstance) {
		vmi.OwnerReferences = []metav1.OwnerReference{{APIVersion: v1.GroupVersion.String(), Kind: "VirtualMachine", Name: "tiny", UID: "vm", Controller: &yes}}
	}))
	w.podsAge = true
	w.reconcile()
	pod := w.pod()
	bytes, err := strconv.ParseInt(pod.Annotations[v1.MemoryOverheadAnnotationBytes], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	w.podStatus(running)
	w.reconcile()
	w.edit(func(vmi *v1.VirtualMachineInstance) { // what virt-handler writes
		class := corev1.PodQOSBurstable
		s := &vmi.Status
		s.Phase, s.QOSClass, s.LauncherContainerImageVersion, s.MigrationTransport = v1.Running, &class, image, v1.MigrationTransportUnix
		s.Memory = &v1.MemoryStatus{MemoryOverhead: resource.NewQuantity(bytes, resource.BinarySI)}
		s.PhaseTransitionTimestamps = append(s.PhaseTransitionTimestamps, v1.VirtualMachineInstancePhaseTransitionTimestamp{
			Phase: v1.Scheduling, PhaseTransitionTimestamp: pod.CreationTimestamp,
		})
		condition.Set(vmi, v1.VirtualMachineInstanceCondition{Type: v1.VirtualMachineInstanceReady, Status: corev1.ConditionTrue}, w.now)
	})
	w.reconcile()
	w.reconcile()
	w.deleteVMI()
	w.now = w.vmi().DeletionTimestamp.Time
	w.reconcile()
	w.podStatus(ended(0, w.now))
	w.reconcile()
	w.reconcile()
	want := "create *v1.Pod,patch status *v1.Pod,delete *v1.Pod,patch *v1.VirtualMachineInstance"
	if got := strings.Join(w.writes, ","); got != want || w.vmi() != nil {
		t.Errorf("writes:\n got %s\nwant %s", got, want)
	}
	if told := w.told(); told != "" {
		t.Errorf("events: %s", told)
	}
}

// A missing claim is waited for, and the VMI says which.
func TestMissingClaim(t *testing.T) {
	w := newWorld(t, newVMI(withClaim))
	w.reconcile()
	w.reconcile()
	vmi := w.vmi()
	if vmi.Status.Phase != v1.Pending || w.pod() != nil {
		t.Fatalf("phase %s, pod %v", vmi.Status.Phase, w.pod())
	}
	c := condition.Of(vmi, v1.VirtualMachineInstanceSynchronized)
	if c == nil || c.Reason != "FailedPvcNotFound" || !strings.Contains(c.Message, "lab/data") {
		t.Errorf("condition %+v", c)
	}
	if told := w.told(); strings.Count(told, "FailedPvcNotFound") != 1 {
		t.Errorf("one event should say it, not %q", told)
	}
	if len(w.writes) != 1 {
		t.Errorf("waiting costs writes: %v", w.writes)
	}
	if got := w.r.usersOfClaim(context.Background(), newClaim()); len(got) != 1 || got[0].NamespacedName != key {
		t.Errorf("the claim's appearance wakes %v", got)
	}
	if err := w.c.Create(context.Background(), newClaim()); err != nil {
		t.Fatal(err)
	}
	w.reconcile()
	if w.pod() == nil || condition.Of(w.vmi(), v1.VirtualMachineInstanceSynchronized) != nil {
		t.Errorf("the claim is there, but pod %v and conditions %+v", w.pod(), w.vmi().Status.Conditions)
	}
}

type progressOf map[string]string

func (d progressOf) Progress(_ context.Context, _, name string) (bool, string, error) {
	return d[name] == "", d[name], nil
}

func TestDataVolumeNotReady(t *testing.T) {
	w := newWorld(t, newVMI(func(vmi *v1.VirtualMachineInstance) {
		vmi.Spec.Volumes = []v1.Volume{{Name: "disk", VolumeSource: v1.VolumeSource{DataVolume: &v1.DataVolumeSource{Name: "data"}}}}
	}), newClaim())
	progress := progressOf{"data": "import is 40% done"}
	w.r.DataVolumes = progress
	w.reconcile()
	if c := condition.Of(w.vmi(), v1.VirtualMachineInstanceSynchronized); w.pod() != nil || c == nil || !strings.Contains(c.Message, "40%") {
		t.Fatalf("a half-filled claim: pod %v, condition %+v", w.pod(), c)
	}
	if !condition.Is(w.vmi(), v1.VirtualMachineInstanceDataVolumesReady, corev1.ConditionFalse) {
		t.Errorf("conditions %+v", w.vmi().Status.Conditions)
	}
	progress["data"] = "import is 80% done"
	w.reconcile()
	if told := w.told(); strings.Count(told, "DataVolumeNotReady") != 1 || strings.Contains(told, "Warning DataVolumeNotReady") {
		t.Errorf("that a disk is being filled is told once and is no warning: %q", told)
	}
	progress["data"] = ""
	w.reconcile()
	if w.pod() == nil || !condition.Is(w.vmi(), v1.VirtualMachineInstanceDataVolumesReady, corev1.ConditionTrue) {
		t.Errorf("a filled claim: pod %v, conditions %+v", w.pod(), w.vmi().Status.Conditions)
	}
}

// What keeps a pod from coming up is shown on the VMI and taken back when it is over.
func TestPodProblems(t *testing.T) {
	cases := []struct {
		name    string
		status  func(*corev1.PodStatus)
		on      v1.VirtualMachineInstanceConditionType
		reason  string
		message string
	}{
		{"image cannot be pulled", waiting("ErrImagePull", "no such manifest"), v1.VirtualMachineInstanceSynchronized, "ErrImagePull", "no such manifest"},
		{"image back-off", waiting("ImagePullBackOff", "Back-off"), v1.VirtualMachineInstanceSynchronized, "ImagePullBackOff", "Back-off"},
		{"secret missing", waiting("ContainerCreating", ""), v1.VirtualMachineInstanceSynchronized, "FailedMount", `secret "nope" not found`},
		{"no node fits", func(s *corev1.PodStatus) {
			s.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/1 nodes"}}
		}, condition.PodScheduled, "Unschedulable", "0/1 nodes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, newVMI())
			w.r.MountFailures = mountFailures{"FailedMount", `secret "nope" not found`}
			w.reconcile()
			w.podStatus(c.status)
			w.reconcile()
			got := condition.Of(w.vmi(), c.on)
			if got == nil || got.Status != corev1.ConditionFalse || got.Reason != c.reason || got.Message != c.message {
				t.Fatalf("condition %+v", got)
			}
			before := len(w.writes)
			w.reconcile()
			if len(w.writes) != before {
				t.Errorf("the same problem is written again: %v", w.writes[before:])
			}
			w.podStatus(func(s *corev1.PodStatus) { *s = corev1.PodStatus{}; running(s) })
			w.reconcile()
			if got := condition.Of(w.vmi(), c.on); got != nil {
				t.Errorf("still shown after the pod came up: %+v", got)
			}
		})
	}
}

type mountFailures [2]string

func (m mountFailures) Of(types.UID) (string, string) { return m[0], m[1] }

// A guest whose pod is lost has failed; virt-handler is given time to say how it ended.
func TestPodLost(t *testing.T) {
	cases := []struct {
		name  string
		phase v1.VirtualMachineInstancePhase
		lose  func(*world)
		want  v1.VirtualMachineInstancePhase
		why   string
		wait  bool
	}{
		{"pod gone while running", v1.Running, func(w *world) { w.removePod() }, v1.Failed, reasonPodGone, false},
		{"pod gone while scheduling", v1.Scheduling, func(w *world) { w.removePod() }, v1.Failed, reasonPodGone, false},
		{"launcher killed", v1.Running, func(w *world) { w.podStatus(ended(137, w.now)) }, v1.Failed, reasonPodFailed, true},
		{"guest powered off, handler away", v1.Running, func(w *world) { w.podStatus(ended(0, w.now)) }, v1.Succeeded, "", true},
		{"pod deleted before the guest", v1.Scheduling, func(w *world) { w.podStatus(ended(0, w.now)) }, v1.Failed, reasonPodFailed, true},
		{"evicted by kubelet", v1.Scheduling, func(w *world) {
			w.podStatus(func(s *corev1.PodStatus) { s.Phase, s.Reason, s.Message = corev1.PodFailed, "Evicted", "disk pressure" })
		}, v1.Failed, "Evicted", false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, newVMI())
			w.reconcile()
			w.podStatus(running)
			w.edit(func(vmi *v1.VirtualMachineInstance) { vmi.Status.Phase = c.phase })
			w.reconcile()
			c.lose(w)
			result := w.reconcile()
			if c.wait {
				if w.vmi().IsFinal() || result.RequeueAfter <= 0 {
					t.Fatalf("virt-handler got no time: phase %s, look again after %v", w.vmi().Status.Phase, result.RequeueAfter)
				}
				w.now = w.now.Add(result.RequeueAfter)
				w.reconcile()
			}
			vmi := w.vmi()
			if vmi.Status.Phase != c.want || vmi.Status.Reason != c.why {
				t.Errorf("phase %s, reason %q", vmi.Status.Phase, vmi.Status.Reason)
			}
			if c.want == v1.Failed && !strings.Contains(w.told(), "Warning "+c.why) {
				t.Error("no event says why")
			}
		})
	}
}

// An old cache must neither make a second pod nor declare the first one lost.
func TestOldCache(t *testing.T) {
	w := newWorld(t, newVMI())
	w.reconcile()
	w.hide = func(obj client.Object) bool { return true }
	w.edit(func(vmi *v1.VirtualMachineInstance) { vmi.Labels = map[string]string{"touched": "yes"} })
	w.reconcile()
	if vmi := w.vmi(); vmi.Status.Phase != v1.Scheduling {
		t.Errorf("phase %s because the cache does not know the pod", vmi.Status.Phase)
	}
	// The phase was not written, for example because virt-handler was faster.
	w.edit(func(vmi *v1.VirtualMachineInstance) { vmi.Status.Phase = v1.Pending })
	w.reconcile()
	if vmi := w.vmi(); vmi.Status.Phase != v1.Scheduling {
		t.Errorf("phase %s although the pod exists", vmi.Status.Phase)
	}
	var pods corev1.PodList
	if err := w.c.List(context.Background(), &pods); err != nil || len(pods.Items) != 1 {
		t.Errorf("%d pods, %v", len(pods.Items), err)
	}
	w.deleteVMI()
	w.reconcile()
	w.reconcile()
	if w.vmi() != nil || w.pod() != nil {
		t.Errorf("after deletion: VMI %v, pod %v", w.vmi(), w.pod())
	}
}

// A pod that only looks like the VMI's is not touched and not counted.
func TestForeignPod(t *testing.T) {
	vmi := newVMI()
	foreign := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "lab", Name: "virt-launcher-tiny-0", Labels: map[string]string{
		v1.AppLabel: "virt-launcher", v1.CreatedByLabel: string(vmi.UID),
	}}}
	w := newWorld(t, vmi, foreign)
	w.reconcile()
	if w.pod() == nil {
		t.Fatal("a foreign pod with our labels keeps the VMI from starting")
	}
	w.deleteVMI()
	w.reconcile()
	w.reconcile()
	if w.vmi() != nil {
		t.Error("a foreign pod with our labels holds the VMI")
	}
	if err := w.c.Get(context.Background(), client.ObjectKeyFromObject(foreign), foreign); err != nil {
		t.Errorf("the foreign pod: %v", err)
	}
}

// A migration that failed is completed, too: its target's pod is not where the guest is.
func TestPodOfAGuestThatStayed(t *testing.T) {
	vmi := newVMI()
	vmi.Status.NodeName = "node01"
	vmi.Status.MigrationState = &v1.VirtualMachineInstanceMigrationState{TargetPod: "target", Completed: true}
	pods := make([]corev1.Pod, 2)
	pods[0].Name, pods[0].Spec.NodeName, pods[0].Labels = "target", "node02", map[string]string{v1.MigrationJobLabel: "m"}
	pods[1].Name, pods[1].Spec.NodeName = "source", "node01"
	if got := currentPod(vmi, pods); got.Name != "target" {
		t.Errorf("the guest that has moved is in pod %s", got.Name)
	}
	vmi.Status.MigrationState.Failed = true
	if got := currentPod(vmi, pods); got.Name != "source" {
		t.Errorf("the guest that has stayed is in pod %s", got.Name)
	}
}

// When Pod Security or a quota refuses the pod, the VMI says so and is tried again.
func TestRefused(t *testing.T) {
	w := newWorld(t, newVMI())
	w.refuse = func(verb string, obj client.Object) error {
		if verb == "create" {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "x", errors.New("exceeded quota: compute"))
		}
		return nil
	}
	for range 3 {
		if _, err := w.try(); err == nil {
			t.Fatal("a refused pod should be tried again")
		}
	}
	c := condition.Of(w.vmi(), v1.VirtualMachineInstanceSynchronized)
	if c == nil || c.Reason != reasonCreateFailed || !strings.Contains(c.Message, "exceeded quota") {
		t.Errorf("condition %+v", c)
	}
	if told := w.told(); strings.Count(told, reasonCreateFailed) != 1 || len(w.writes) != 1 {
		t.Errorf("three attempts wrote %v and told %q", w.writes, told)
	}
	w.refuse = nil
	w.reconcile()
	if w.pod() == nil || condition.Of(w.vmi(), v1.VirtualMachineInstanceSynchronized) != nil {
		t.Errorf("after the quota was raised: pod %v, conditions %+v", w.pod(), w.vmi().Status.Conditions)
	}
}

// Pausing takes the guest out of its Services, resuming brings it back.
// A forced stop shortens the grace period; the pod, already told to go, is told again.
// A running guest is ended by virt-handler; its pod is deleted once, when kubelet has reported the end. A guest that takes its
// time, or whose node agent is away, is told through its pod.
// A start that goes as it should is told in one write, together with its success; anything else is told at once.
// A namespace that is being removed takes no pods, and that is nobody's failure.
// A VMI deleted before it had a pod goes at once.
// Long shutdowns are shown, short ones are not worth a write.
// VMIs made while the admission webhook was away still get a phase and a finalizer.
// A VMI whose spec cannot be rendered says why and is left alone until something changes.
