package vmi

import (
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	corev1 "k8s.io/api/core/v1"

	"virtctl/internal/libvirt/wire"
)

func newVMI() *v1.VirtualMachineInstance {
	vmi := &v1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{
		Name: "web", Namespace: "default", UID: vmiUID, Generation: 1, Finalizers: []string{v1.VirtualMachineInstanceFinalizer},
	}}
	memory := resource.MustParse("128Mi")
	vmi.Spec.Architecture = "amd64"
	vmi.Spec.Domain.Memory = &v1.Memory{Guest: &memory}
	vmi.Spec.Domain.Devices.Disks = []v1.Disk{{Name: "root", DiskDevice: v1.DiskDevice{Disk: &v1.DiskTarget{Bus: v1.DiskBusVirtio}}}}
	vmi.Spec.Domain.Devices.Interfaces = []v1.Interface{{
		Name: "default", InterfaceBindingMethod: v1.InterfaceBindingMethod{Masquerade: &v1.InterfaceMasquerade{}},
	}}
	vmi.Spec.Networks = []v1.Network{{Name: "default", NetworkSource: v1.NetworkSource{Pod: &v1.PodNetwork{}}}}
	vmi.Spec.Volumes = []v1.Volume{{Name: "root", VolumeSource: v1.VolumeSource{ContainerDisk: &v1.ContainerDiskSource{Image: "demo"}}}}
	vmi.Status.Phase = v1.Scheduling
	vmi.Status.Conditions = []v1.VirtualMachineInstanceCondition{{Type: v1.VirtualMachineInstanceReady, Status: corev1.ConditionFalse, Reason: v1.GuestNotRunningReason}}
	vmi.Status.PhaseTransitionTimestamps = []v1.VirtualMachineInstancePhaseTransitionTimestamp{{Phase: v1.Pending}, {Phase: v1.Scheduling}}
	return vmi
}

func running(vmi *v1.VirtualMachineInstance) bool { return vmi.Status.Phase == v1.Running }

func conditionOf(vmi *v1.VirtualMachineInstance, kind v1.VirtualMachineInstanceConditionType) *v1.VirtualMachineInstanceCondition {
	for i := range vmi.Status.Conditions {
		if vmi.Status.Conditions[i].Type == kind {
			return &vmi.Status.Conditions[i]
		}
	}
	return nil
}

// The way every VM starts: one write, one event, and everything a user looks for in the status.
func TestStart(t *testing.T) {
	w := newWorld(t, newVMI(), script{})
	vmi := w.until("running", running)
	if vmi.Status.NodeName != nodeName || vmi.Labels[v1.NodeNameLabel] != nodeName || vmi.Status.ActivePods[podUID] != nodeName {
		t.Errorf("place: %q, %v, %v", vmi.Status.NodeName, vmi.Labels, vmi.Status.ActivePods)
	}
	if len(vmi.Status.Interfaces) != 1 || vmi.Status.Interfaces[0].IP != "10.244.0.5" || vmi.Status.Interfaces[0].MAC == "" ||
		vmi.Status.Interfaces[0].InfoSource != "domain" || vmi.Status.Interfaces[0].PodInterfaceName != "eth0" {
		t.Errorf("interfaces: %+v", vmi.Status.Interfaces)
	}
	var phases []v1.VirtualMachineInstancePhase
	for _, p := range vmi.Status.PhaseTransitionTimestamps {
		phases = append(phases, p.Phase)
	}
	if !slices.Equal(phases, []v1.VirtualMachineInstancePhase{v1.Pending, v1.Scheduling, v1.Scheduled, v1.Running}) {
		t.Errorf("phases: %v", phases)
	}
	if c := conditionOf(vmi, v1.VirtualMachineInstanceReady); c == nil || c.Status != corev1.ConditionTrue || c.Reason != "" {
		t.Errorf("a guest without a readiness probe runs: %+v", vmi.Status.Conditions)
	}
	if s := vmi.Status; s.LauncherContainerImageVersion != "launcher:test" || *s.QOSClass != corev1.PodQOSBurstable || s.Memory.MemoryOverhead.String() != "200Mi" {
		t.Errorf("the pod: image %q, class %v, memory %+v", s.LauncherContainerImageVersion, s.QOSClass, s.Memory)
	}
	if c := conditionOf(vmi, v1.VirtualMachineInstanceIsMigratable); c == nil || c.Status != corev1.ConditionTrue {
		t.Errorf("LiveMigratable: %+v", c)
	}
	if vmi.Status.Machine == nil || !strings.Contains(vmi.Status.Machine.Type, "q35") || vmi.Status.Memory.GuestAtBoot.String() != "128Mi" {
		t.Errorf("machine %+v, memory %+v", vmi.Status.Machine, vmi.Status.Memory)
	}
	if len(vmi.Status.VolumeStatus) != 1 || vmi.Status.VolumeStatus[0].Target != "vda" {
		t.Errorf("volumes: %+v", vmi.Status.VolumeStatus)
	}
	w.reconcile()
	if patches, events := w.writes.seen(); patches != 1 || !slices.Equal(events, []string{"Started"}) {
		t.Errorf("%d patches and events %v, want one patch and Started", patches, events)
	}
}

// The whole life of a VM with an agent: an idle cluster writes nothing, and a busy one little.
func TestWritesOfALife(t *testing.T) {
	w := newWorld(t, newVMI(), script{Agent: true})
	w.until("agent", func(vmi *v1.VirtualMachineInstance) bool { return vmi.Status.GuestOSInfo.ID == "demo" })
	if err := w.client.Delete(t.Context(), w.vmi()); err != nil {
		t.Fatal(err)
	}
	w.reconcile()
	w.ends()
	w.reconcile()
	if patches, events := w.writes.seen(); patches > 2 || !slices.Equal(events, []string{"Started", "Stopped"}) {
		t.Errorf("%d patches and events %v, want at most two (running, agent), and Started and Stopped", patches, events)
	}
}

// kill -9 of the handler must cost nothing: no restart of the guest, no write.
func TestHandlerRestart(t *testing.T) {
	w := newWorld(t, newVMI(), script{Agent: true})
	before := w.until("agent", func(vmi *v1.VirtualMachineInstance) bool {
		return conditionOf(vmi, v1.VirtualMachineInstanceAgentConnected) != nil && vmi.Status.GuestOSInfo.ID == "demo"
	})
	w.stop()
	w.startHandler()
	l := func() bool {
		_, ok := w.set.Running(types.NamespacedName{Namespace: "default", Name: "web"})
		return ok
	}
	w.until("found again", func(*v1.VirtualMachineInstance) bool { return l() && w.set.Ensure(w.ref()).View().Guest != nil })
	w.reconcile()
	after := w.vmi()
	if before.ResourceVersion != after.ResourceVersion {
		t.Errorf("the object was written: %s -> %s", before.ResourceVersion, after.ResourceVersion)
	}
	// And it goes on following the domain.
	if _, err := w.launcher().Suspend(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.until("paused", func(vmi *v1.VirtualMachineInstance) bool {
		c := conditionOf(vmi, v1.VirtualMachineInstancePaused)
		return c != nil && c.Reason == "PausedByUser"
	})
}

// A broken image is said once, with its reason, and is not tried again and again.
func TestBrokenImage(t *testing.T) {
	w := newWorld(t, newVMI(), script{PrepareError: &wire.Error{
		Code: wire.CodeInvalid, Message: "volume root: the image has no /disk directory; put one disk image there", Disk: "root",
	}})
	vmi := w.until("refused", func(vmi *v1.VirtualMachineInstance) bool {
		return conditionOf(vmi, v1.VirtualMachineInstanceSynchronized) != nil
	})
	c := conditionOf(vmi, v1.VirtualMachineInstanceSynchronized)
	if vmi.Status.Phase != v1.Scheduled || c.Status != corev1.ConditionFalse || !strings.Contains(c.Message, "/disk") {
		t.Errorf("phase %s, condition %+v", vmi.Status.Phase, c)
	}
	for range 3 {
		w.reconcile()
	}
	if patches, events := w.writes.seen(); patches != 1 || !slices.Equal(events, []string{"SyncFailed"}) {
		t.Errorf("%d patches and events %v, want one of each", patches, events)
	}
}

func TestStartPaused(t *testing.T) {
	vmi := newVMI()
	paused := v1.StartStrategyPaused
	vmi.Spec.StartStrategy = &paused
	w := newWorld(t, vmi, script{})
	got := w.until("running", running)
	if c := conditionOf(got, v1.VirtualMachineInstancePaused); c == nil || c.Reason != "PausedByUser" {
		t.Errorf("conditions: %+v", got.Status.Conditions)
	}
}

func TestGuestEnds(t *testing.T) {
	t.Run("crash", func(t *testing.T) {
		w := newWorld(t, newVMI(), script{})
		w.until("running", running)
		if _, err := w.launcher().Reset(t.Context()); err != nil { // plays a crash
			t.Fatal(err)
		}
		w.until("failed", func(vmi *v1.VirtualMachineInstance) bool { return vmi.Status.Phase == v1.Failed })
	})
	t.Run("crash, the launcher is to be looked at", func(t *testing.T) {
		vmi := newVMI()
		vmi.Annotations = map[string]string{v1.KeepLauncherAfterFailureAnnotation: "true"}
		w := newWorld(t, vmi, script{})
		w.until("running", running)
		if _, err := w.launcher().Reset(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.until("failed", func(vmi *v1.VirtualMachineInstance) bool { return vmi.Status.Phase == v1.Failed })
		w.reconcile()
		if _, err := w.set.Ensure(w.ref()).View().Peer.Client.Info(t.Context()); err != nil {
			t.Errorf("the launcher was let go: %v", err)
		}
		if err := w.client.Delete(t.Context(), w.vmi()); err != nil {
			t.Fatal(err)
		}
		w.reconcile()
		w.ends()
	})
	t.Run("power-off", func(t *testing.T) {
		w := newWorld(t, newVMI(), script{})
		w.until("running", running)
		if err := w.launcher().Shutdown(t.Context(), wire.ShutdownRequest{}); err != nil {
			t.Fatal(err)
		}
		w.until("succeeded", func(vmi *v1.VirtualMachineInstance) bool { return vmi.Status.Phase == v1.Succeeded })
		w.ends()
		if patches, events := w.writes.seen(); patches != 2 || !slices.Equal(events, []string{"Started", "Stopped"}) {
			t.Errorf("%d patches and events %v", patches, events)
		}
	})
}

// ends waits until the launcher has gone.
func (w *world) ends() {
	w.t.Helper()
	pod := types.NamespacedName{Namespace: "default", Name: "virt-launcher-web-x"}
	deadline := time.After(patience)
	for {
		if _, ok := w.set.Running(pod); !ok && w.set.Ensure(w.ref()).View().Peer == nil {
			return
		}
		select {
		case <-w.changed:
			w.reconcile()
		case <-deadline:
			w.t.Fatal("the launcher was not told to quit")
		}
	}
}

// Deleting asks the guest first, and forces it when its time is over. How an object ended that goes at once is told in an event only.
func TestDelete(t *testing.T) {
	for name, c := range map[string]struct {
		grace int64
		deaf  bool
		held  string
		want  v1.VirtualMachineInstancePhase
	}{
		"polite guest":                 {30, false, "", v1.Running},
		"polite guest, object is held": {30, false, "example.com/backup", v1.Succeeded},
		"deaf guest":                   {1, true, "", v1.Failed},
		"no grace":                     {0, true, "", v1.Running},
	} {
		t.Run(name, func(t *testing.T) {
			vmi := newVMI()
			vmi.Spec.TerminationGracePeriodSeconds = &c.grace
			if c.held != "" {
				vmi.Finalizers = append(vmi.Finalizers, c.held)
			}
			w := newWorld(t, vmi, script{IgnorePower: c.deaf})
			w.until("running", running)
			if err := w.client.Delete(t.Context(), w.vmi()); err != nil {
				t.Fatal(err)
			}
			if result := w.reconcile(); result.RequeueAfter > 0 && c.deaf {
				if result.RequeueAfter > time.Duration(c.grace)*time.Second {
					t.Errorf("looks again after %s only", result.RequeueAfter)
				}
				later := time.Now().Add(2 * time.Duration(c.grace) * time.Second)
				w.r.Now = func() time.Time { return later }
				w.reconcile()
			}
			w.ends()
			w.reconcile()
			if got := w.vmi(); got.Status.Phase != c.want {
				t.Errorf("phase %s, want %s", got.Status.Phase, c.want)
			}
			if _, events := w.writes.seen(); !slices.Equal(events, []string{"Started", "Stopped"}) {
				t.Errorf("events %v", events)
			}
		})
	}
}

// A pod that only carries the labels of a launcher, or another object's name, must not be served (CVE-2025-64435).
func TestWhosePod(t *testing.T) {
	w := newWorld(t, newVMI(), script{})
	w.until("running", running)
	no := false
	for name, change := range map[string]func(*corev1.Pod){
		"no owner":     func(p *corev1.Pod) { p.OwnerReferences = nil },
		"not control":  func(p *corev1.Pod) { p.OwnerReferences[0].Controller = &no },
		"other kind":   func(p *corev1.Pod) { p.OwnerReferences[0].Kind = "Deployment" },
		"other group":  func(p *corev1.Pod) { p.OwnerReferences[0].APIVersion = "evil.io/v1" },
		"other node":   func(p *corev1.Pod) { p.Spec.NodeName = "node02" },
		"host network": func(p *corev1.Pod) { p.Spec.HostNetwork = true },
		"ended":        func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed },
	} {
		pod := launcherPod(newVMI())
		change(pod)
		if ref, ok := w.r.refOf(pod); ok {
			t.Errorf("%s: taken for the launcher of %v", name, ref.VMI)
		}
	}
	ref := w.ref()
	ref.VMIUID = "another"
	w.r.memory.forget(ref.Pod)
	if vmi, err := w.r.vmiOf(t.Context(), ref); err != nil || vmi != nil {
		t.Errorf("an object with the same name but another UID: %v, %v", vmi, err)
	}
}

// Somebody else's write between our look and our patch must survive, and ours must arrive.
func TestWriteMeetsAnother(t *testing.T) {
	w := newWorld(t, newVMI(), script{})
	vmi := w.until("running", running)
	s := w.session(vmi)
	other := vmi.DeepCopy()
	other.Status.Conditions = append([]v1.VirtualMachineInstanceCondition{{Type: "Novelty", Status: corev1.ConditionTrue}}, other.Status.Conditions...)
	other.Status.VolumeStatus[0].Phase = v1.VolumeReady
	other.Status.EvacuationNodeName = nodeName
	if err := w.client.Patch(t.Context(), other, client.MergeFrom(vmi)); err != nil {
		t.Fatal(err)
	}
	o := s.observed(nil)
	o.State = wire.State{State: wire.StatePaused, Reason: wire.ReasonIOError}
	if err := s.write(t.Context(), o, nil); err != nil {
		t.Fatal(err)
	}
	got := w.vmi()
	if c := conditionOf(got, v1.VirtualMachineInstancePaused); c == nil || c.Reason != "PausedIOError" {
		t.Errorf("ours is missing: %+v", got.Status.Conditions)
	}
	if conditionOf(got, "Novelty") == nil || got.Status.EvacuationNodeName == "" || got.Status.VolumeStatus[0].Phase != v1.VolumeReady {
		t.Errorf("theirs is gone: %+v", got.Status)
	}
	// Somebody has declared the object failed: that stays.
	stale := w.vmi()
	failed := stale.DeepCopy()
	failed.Status.Phase = v1.Failed
	if err := w.client.Patch(t.Context(), failed, client.MergeFrom(stale)); err != nil {
		t.Fatal(err)
	}
	stale.Status.Phase = v1.Scheduling
	s = w.session(stale)
	o = s.observed(nil)
	if err := s.write(t.Context(), o, nil); err != nil {
		t.Fatal(err)
	}
	if got := w.vmi().Status.Phase; got != v1.Failed {
		t.Errorf("phase %s, want Failed", got)
	}
}

// A user who gave a guest keys sees in the object, and as an event, whether they have arrived.
func TestAccessCredentialsAreToldOnce(t *testing.T) {
	w := newWorld(t, newVMI(), script{Credentials: &wire.CredentialsState{Reason: wire.CredentialsRefused, Message: "no such user"}})
	w.until("refused", func(vmi *v1.VirtualMachineInstance) bool {
		c := conditionOf(vmi, v1.VirtualMachineInstanceAccessCredentialsSynchronized)
		return c != nil && c.Reason == "GuestAgentRefused" && c.Message == "no such user"
	})
	s := w.session(w.vmi())
	for name, c := range map[string]struct {
		now    *wire.CredentialsState
		reason string
	}{
		"said":    {&wire.CredentialsState{Reason: wire.CredentialsRefused, Message: "no such user"}, ""},
		"other":   {&wire.CredentialsState{Reason: wire.CredentialsRefused, Message: "other"}, "AccessCredentialsSyncFailed"},
		"away":    {&wire.CredentialsState{Reason: wire.CredentialsNoAgent, Message: "x"}, ""},
		"done":    {&wire.CredentialsState{Synchronized: true}, "AccessCredentialsSyncSuccess"},
		"nothing": {nil, ""},
	} {
		s.view.State = &wire.State{State: wire.StateRunning, Credentials: c.now}
		got := s.credentialsEvent()
		if (got == nil) != (c.reason == "") || got != nil && got.reason != c.reason {
			t.Errorf("%s: %+v, want %q", name, got, c.reason)
		}
	}
}

// A launcher whose pod is deleted while it is being loaded does not hear of it from kubelet. It must not stay until the grace period is
// over, and no guest may be started in it.
func TestPodDeletedBeforeTheGuest(t *testing.T) {
	w := newWorld(t, newVMI(), script{})
	pod := &corev1.Pod{}
	if err := w.client.Get(t.Context(), w.ref().Pod, pod); err != nil {
		t.Fatal(err)
	}
	pod.Finalizers = []string{"test/kubelet"}
	if err := w.client.Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	if err := w.client.Delete(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	l, met := w.set.Ensure(w.ref()), false
	w.until("the launcher ends", func(*v1.VirtualMachineInstance) bool {
		met = met || l.View().Peer != nil
		return met && l.View().Peer == nil
	})
	if state := l.View().State.State; state != wire.StateNone {
		t.Errorf("a guest was started: %s", state)
	}
}
