package vmi

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/server/controller/condition"
	"virtctl/internal/server/controller/launcherpod"
)

func plugged(name string) v1.Volume {
	source := &v1.PersistentVolumeClaimVolumeSource{Hotpluggable: true}
	source.ClaimName = name + "-claim"
	return v1.Volume{Name: name, VolumeSource: v1.VolumeSource{PersistentVolumeClaim: source}}
}

// running brings a world to a guest that runs on a node.
func (w *world) running() {
	w.t.Helper()
	w.reconcile()
	pod := w.pod()
	pod.Spec.NodeName = "node01"
	if err := w.c.Update(context.Background(), pod); err != nil {
		w.t.Fatal(err)
	}
	w.podStatus(func(s *corev1.PodStatus) {
		s.Phase = corev1.PodRunning
		s.ContainerStatuses = []corev1.ContainerStatus{{Name: "compute", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
	})
	w.edit(func(vmi *v1.VirtualMachineInstance) { vmi.Status.Phase, vmi.Status.NodeName = v1.Running, "node01" })
	w.reconcile()
}

func (w *world) attachment(volume string) *corev1.Pod {
	w.t.Helper()
	pod := &corev1.Pod{}
	name := types.NamespacedName{Namespace: key.Namespace, Name: launcherpod.AttachmentName(w.pod(), volume)}
	if err := w.c.Get(context.Background(), name, pod); err != nil {
		return nil
	}
	return pod
}

func (w *world) volume(name string) v1.VolumeStatus {
	for _, v := range w.vmi().Status.VolumeStatus {
		if v.Name == name {
			return v
		}
	}
	return v1.VolumeStatus{}
}

// The life of a plugged volume as its user sees it: waits for the claim, comes to the node, is the guest's, and goes without a
// trace when it is unplugged.
func TestPlugAndUnplug(t *testing.T) {
	w := newWorld(t, newVMI())
	w.running()
	w.edit(func(vmi *v1.VirtualMachineInstance) { vmi.Spec.Volumes = append(vmi.Spec.Volumes, plugged("data")) })
	w.reconcile()
	if v := w.volume("data"); v.Phase != v1.VolumePending || !strings.Contains(v.Message, "data-claim does not exist") || w.attachment("data") != nil {
		t.Errorf("without its claim: %+v", v)
	}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: "data-claim"}}
	claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	claim.Status.Phase = corev1.ClaimBound
	if err := w.c.Create(context.Background(), claim); err != nil {
		t.Fatal(err)
	}
	w.reconcile()
	pod := w.attachment("data")
	if v := w.volume("data"); pod == nil || v.Phase != v1.VolumeBound || v.HotplugVolume == nil || v.HotplugVolume.AttachPodName != pod.Name {
		t.Fatalf("with its claim: %+v, pod %v", v, pod)
	}
	pod.Status.Phase = corev1.PodRunning
	if err := w.c.Status().Update(context.Background(), pod); err != nil {
		t.Fatal(err)
	}
	w.reconcile()
	if v := w.volume("data"); v.Phase != v1.HotplugVolumeAttachedToNode || v.HotplugVolume.AttachPodUID != pod.UID {
		t.Errorf("on the node: %+v", v)
	}
	w.edit(func(vmi *v1.VirtualMachineInstance) { volumeStatus(vmi, "data").Phase = v1.VolumeReady })
	w.reconcile()
	if v := w.volume("data"); v.Phase != v1.VolumeReady {
		t.Errorf("virt-handler's word was overwritten: %+v", v)
	}
	w.edit(func(vmi *v1.VirtualMachineInstance) { vmi.Spec.Volumes = nil })
	w.reconcile()
	if v := w.volume("data"); v.Phase != v1.HotplugVolumeDetaching || w.attachment("data") == nil {
		t.Errorf("unplugged while the guest has it: %+v", v)
	}
	w.edit(func(vmi *v1.VirtualMachineInstance) { volumeStatus(vmi, "data").Phase = v1.HotplugVolumeUnMounted })
	w.reconcile()
	w.reconcile()
	if v := w.volume("data"); v.Name != "" || w.attachment("data") != nil {
		t.Errorf("when the guest let it go: %+v, pod %v", v, w.attachment("data"))
	}
}

// An evicted attachment pod is made again; the guest keeps its disk meanwhile.
func TestAttachmentEnds(t *testing.T) {
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: "data-claim"}}
	w := newWorld(t, newVMI(func(vmi *v1.VirtualMachineInstance) { vmi.Spec.Volumes = []v1.Volume{plugged("data")} }), claim)
	w.running()
	first := w.attachment("data")
	if first == nil {
		t.Fatal("no attachment pod")
	}
	w.edit(func(vmi *v1.VirtualMachineInstance) { volumeStatus(vmi, "data").Phase = v1.VolumeReady })
	first.Status.Phase = corev1.PodFailed
	if err := w.c.Status().Update(context.Background(), first); err != nil {
		t.Fatal(err)
	}
	w.reconcile()
	w.reconcile()
	if pod := w.attachment("data"); pod == nil || pod.Status.Phase == corev1.PodFailed || w.volume("data").Phase != v1.VolumeReady {
		t.Errorf("pod %v, volume %+v", pod, w.volume("data"))
	}
}

// Without its claim a TPM forgets its keys when the VM stops: the claim is the VM's, is made once and found again by its label.
func TestStateClaim(t *testing.T) {
	yes := true
	owner := metav1.OwnerReference{APIVersion: "kubevirt.io/v1", Kind: "VirtualMachine", Name: "tiny", UID: "vm", Controller: &yes}
	w := newWorld(t, newVMI(func(vmi *v1.VirtualMachineInstance) {
		vmi.Spec.Domain.Devices.TPM = &v1.TPMDevice{Persistent: &yes}
		vmi.OwnerReferences = []metav1.OwnerReference{owner}
	}))
	w.reconcile()
	list := &corev1.PersistentVolumeClaimList{}
	if err := w.c.List(context.Background(), list); err != nil || len(list.Items) != 1 {
		t.Fatalf("%d claims, %v", len(list.Items), err)
	}
	claim := list.Items[0]
	if !strings.HasPrefix(claim.Name, "persistent-state-for-tiny-") || claim.Labels["persistent-state-for"] != "tiny" || claim.OwnerReferences[0].UID != "vm" ||
		claim.Spec.AccessModes[0] != corev1.ReadWriteOnce || claim.Spec.StorageClassName != nil {
		t.Errorf("%+v", claim)
	}
	found := false
	for _, v := range w.pod().Spec.Volumes {
		found = found || v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim.Name
	}
	if !found {
		t.Error("the pod does not mount the claim")
	}
	again, err := w.r.stateClaim(context.Background(), w.vmi())
	if err != nil || again != claim.Name {
		t.Errorf("a second start: %q, %v", again, err)
	}
	w.edit(func(vmi *v1.VirtualMachineInstance) { vmi.Status.Phase = v1.Running })
	w.reconcile()
	if v := w.volume(claim.Name); v.PersistentVolumeClaimInfo == nil {
		t.Errorf("the status does not list the claim: %+v", w.vmi().Status.VolumeStatus)
	}
}

// A guest that grows must not use what its pod was not given: the pod comes first, and the condition says what is waited for.
func TestResize(t *testing.T) {
	gib, more, most := resource.MustParse("1Gi"), resource.MustParse("2Gi"), resource.MustParse("4Gi")
	w := newWorld(t, newVMI(func(vmi *v1.VirtualMachineInstance) {
		vmi.Spec.Domain.CPU = &v1.CPU{Sockets: 1, Cores: 1, Threads: 1, MaxSockets: 4}
		vmi.Spec.Domain.Memory = &v1.Memory{Guest: &gib, MaxGuest: &most}
		vmi.Status.CurrentCPUTopology = &v1.CPUTopology{Sockets: 1, Cores: 1, Threads: 1}
		vmi.Status.Memory = &v1.MemoryStatus{GuestAtBoot: &gib, GuestCurrent: &gib}
	}))
	w.running()
	before := w.pod().Spec.Containers[0].Resources.Requests.Memory().Value()
	w.edit(func(vmi *v1.VirtualMachineInstance) {
		vmi.Spec.Domain.CPU.Sockets = 2
		vmi.Spec.Domain.Memory.Guest = &more
	})
	w.reconcile()
	c := condition.Of(w.vmi(), v1.VirtualMachineInstanceVCPUChange)
	if after := w.pod().Spec.Containers[0].Resources.Requests.Memory().Value(); after < before+1<<30 || c == nil || c.Reason != reasonResizing {
		t.Errorf("pod from %d to %d, condition %+v", before, after, c)
	}
	w.podStatus(func(s *corev1.PodStatus) {
		s.Conditions = []corev1.PodCondition{{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Message: "not enough memory"}}
	})
	w.reconcile()
	if c = condition.Of(w.vmi(), v1.VirtualMachineInstanceMemoryChange); c == nil || c.Reason != reasonWaiting || !strings.Contains(c.Message, "not enough memory") {
		t.Errorf("on a full node: %+v", c)
	}
	w.podStatus(func(s *corev1.PodStatus) { s.Conditions = nil })
	w.reconcile()
	if c = condition.Of(w.vmi(), v1.VirtualMachineInstanceMemoryChange); c == nil || c.Reason != reasonResized {
		t.Errorf("with room: %+v", c)
	}
	w.edit(func(vmi *v1.VirtualMachineInstance) {
		vmi.Status.CurrentCPUTopology.Sockets, vmi.Status.Memory.GuestCurrent = 2, &more
	})
	w.reconcile()
	if condition.Of(w.vmi(), v1.VirtualMachineInstanceVCPUChange) != nil || condition.Of(w.vmi(), v1.VirtualMachineInstanceMemoryChange) != nil {
		t.Errorf("after the guest has grown: %+v", w.vmi().Status.Conditions)
	}
}
