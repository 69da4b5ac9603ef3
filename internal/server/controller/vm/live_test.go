package vm

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	v1 "kubevirt.io/api/core/v1"
)

func claimed(name string) v1.Volume {
	source := &v1.PersistentVolumeClaimVolumeSource{Hotpluggable: true}
	source.ClaimName = name
	return v1.Volume{Name: name, VolumeSource: v1.VolumeSource{PersistentVolumeClaim: source}}
}

var isReady = v1.VirtualMachineInstanceCondition{Type: v1.VirtualMachineInstanceReady, Status: corev1.ConditionTrue}

// live is a VM whose guest runs and can grow.
func live(t *testing.T) *world {
	t.Helper()
	guest, most := resource.MustParse("1Gi"), resource.MustParse("4Gi")
	w := newWorld(t, newVM(v1.RunStrategyAlways, func(vm *v1.VirtualMachine) {
		vm.Generation = 1
		vm.Spec.Template.Spec.Domain.CPU = &v1.CPU{Sockets: 1, MaxSockets: 4}
		vm.Spec.Template.Spec.Domain.Memory = &v1.Memory{Guest: &guest, MaxGuest: &most}
		vm.Spec.Template.Spec.Domain.Devices.Interfaces = []v1.Interface{{Name: "default"}}
	}))
	w.reconcile()
	w.phase(v1.Running, isReady)
	w.reconcile()
	return w
}

// template changes the VM as a user does.
func (w *world) template(change func(*v1.VirtualMachineInstanceSpec)) {
	w.t.Helper()
	w.edit(func(vm *v1.VirtualMachine) {
		vm.Generation++
		change(&vm.Spec.Template.Spec)
	})
	w.reconcile()
}

func (w *world) restartRequired() bool {
	return vmCondition(w.vm(), v1.VirtualMachineRestartRequired).Status == corev1.ConditionTrue
}

// What a running guest can take reaches its VMI; what it cannot take says that a restart is needed.
func TestLiveUpdates(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*v1.VirtualMachineInstanceSpec)
		arrives func(*v1.VirtualMachineInstanceSpec) bool
		restart bool
	}{
		{
			"processors", func(s *v1.VirtualMachineInstanceSpec) { s.Domain.CPU.Sockets = 3 },
			func(s *v1.VirtualMachineInstanceSpec) bool { return s.Domain.CPU.Sockets == 3 }, false,
		},
		{
			"too many processors", func(s *v1.VirtualMachineInstanceSpec) { s.Domain.CPU.Sockets = 5 },
			func(s *v1.VirtualMachineInstanceSpec) bool { return s.Domain.CPU.Sockets == 1 }, true,
		},
		{"cores", func(s *v1.VirtualMachineInstanceSpec) { s.Domain.CPU.Cores = 2 }, nil, true},
		{
			"memory", func(s *v1.VirtualMachineInstanceSpec) { *s.Domain.Memory.Guest = resource.MustParse("2Gi") },
			func(s *v1.VirtualMachineInstanceSpec) bool { return s.Domain.Memory.Guest.String() == "2Gi" }, false,
		},
		{
			"too much memory", func(s *v1.VirtualMachineInstanceSpec) { *s.Domain.Memory.Guest = resource.MustParse("8Gi") },
			func(s *v1.VirtualMachineInstanceSpec) bool { return s.Domain.Memory.Guest.String() == "1Gi" }, true,
		},
		{"less memory", func(s *v1.VirtualMachineInstanceSpec) { *s.Domain.Memory.Guest = resource.MustParse("512Mi") }, nil, true},
		{"odd memory", func(s *v1.VirtualMachineInstanceSpec) { *s.Domain.Memory.Guest = resource.MustParse("1025Mi") }, nil, true},
		{
			"node selector", func(s *v1.VirtualMachineInstanceSpec) { s.NodeSelector = map[string]string{"a": "b"} },
			func(s *v1.VirtualMachineInstanceSpec) bool { return s.NodeSelector["a"] == "b" }, false,
		},
		{
			"link", func(s *v1.VirtualMachineInstanceSpec) {
				s.Domain.Devices.Interfaces[0].State = v1.InterfaceStateLinkDown
			},
			func(s *v1.VirtualMachineInstanceSpec) bool {
				return s.Domain.Devices.Interfaces[0].State == v1.InterfaceStateLinkDown
			}, false,
		},
		{"model of the processor", func(s *v1.VirtualMachineInstanceSpec) { s.Domain.CPU.Model = "Haswell" }, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := live(t)
			w.template(c.change)
			if c.arrives != nil && !c.arrives(&w.vmi().Spec) {
				t.Errorf("the VMI has %+v", w.vmi().Spec)
			}
			if got := w.restartRequired(); got != c.restart {
				t.Errorf("restart required: %v", got)
			}
			w.reconcile()
			if got := w.restartRequired(); got != c.restart {
				t.Errorf("restart required after another look: %v", got)
			}
		})
	}
}

// Where a guest may run can be narrowed while it runs, and what was added is taken away again.
func TestPlacementGoesBack(t *testing.T) {
	w := live(t)
	w.template(func(s *v1.VirtualMachineInstanceSpec) {
		s.NodeSelector = map[string]string{"a": "b"}
		s.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{}}
		s.Tolerations = []corev1.Toleration{{Key: "k", Operator: corev1.TolerationOpExists}}
	})
	if s := w.vmi().Spec; s.NodeSelector["a"] != "b" || s.Affinity == nil || len(s.Tolerations) != 1 {
		t.Fatalf("the VMI has %+v", s)
	}
	w.template(func(s *v1.VirtualMachineInstanceSpec) { s.NodeSelector, s.Affinity, s.Tolerations = nil, nil, nil })
	if s := w.vmi().Spec; len(s.NodeSelector) != 0 || s.Affinity != nil || len(s.Tolerations) != 0 {
		t.Errorf("the VMI still has %v, %v, %v", s.NodeSelector, s.Affinity, s.Tolerations)
	}
	if w.restartRequired() {
		t.Error("a restart is required for it")
	}
}

// A guest that grows is left alone until it has; then the next step follows. Processors cannot be taken away.
func TestGrowsOnceAtATime(t *testing.T) {
	w := live(t)
	w.phase(v1.Running, isReady, v1.VirtualMachineInstanceCondition{Type: v1.VirtualMachineInstanceVCPUChange, Status: corev1.ConditionTrue})
	w.template(func(s *v1.VirtualMachineInstanceSpec) { s.Domain.CPU.Sockets = 3 })
	if w.vmi().Spec.Domain.CPU.Sockets != 1 || w.restartRequired() {
		t.Errorf("sockets %d, restart %v", w.vmi().Spec.Domain.CPU.Sockets, w.restartRequired())
	}
	vmi := w.vmi()
	vmi.Status.Conditions = []v1.VirtualMachineInstanceCondition{isReady}
	if err := w.c.Update(context.Background(), vmi); err != nil {
		t.Fatal(err)
	}
	w.reconcile()
	if w.vmi().Spec.Domain.CPU.Sockets != 3 {
		t.Errorf("sockets %d", w.vmi().Spec.Domain.CPU.Sockets)
	}
	w.template(func(s *v1.VirtualMachineInstanceSpec) { s.Domain.CPU.Sockets = 2 })
	if w.vmi().Spec.Domain.CPU.Sockets != 3 || !w.restartRequired() {
		t.Errorf("sockets %d, restart %v", w.vmi().Spec.Domain.CPU.Sockets, w.restartRequired())
	}
}

// Volumes come and go with the VM's template. One whose claim changes is unplugged before the new one is plugged.
func TestVolumesFollowTheTemplate(t *testing.T) {
	w := live(t)
	w.template(func(s *v1.VirtualMachineInstanceSpec) {
		s.Volumes = append(s.Volumes, claimed("data"))
		s.Domain.Devices.Disks = append(s.Domain.Devices.Disks, v1.Disk{Name: "data"})
	})
	spec := w.vmi().Spec
	if !hasVolume(&spec, "data") || w.restartRequired() {
		t.Fatalf("volumes %+v, restart %v", spec.Volumes, w.restartRequired())
	}
	disk := spec.Domain.Devices.Disks[len(spec.Domain.Devices.Disks)-1]
	if disk.Name != "data" || disk.Disk == nil || disk.Disk.Bus != v1.DiskBusSCSI {
		t.Errorf("disk %+v", disk)
	}
	vmi := w.vmi()
	vmi.Status.VolumeStatus = []v1.VolumeStatus{{Name: "data", HotplugVolume: &v1.HotplugVolumeStatus{}, Phase: v1.VolumeReady}}
	if err := w.c.Update(context.Background(), vmi); err != nil {
		t.Fatal(err)
	}
	w.template(func(s *v1.VirtualMachineInstanceSpec) {
		s.Volumes[len(s.Volumes)-1].PersistentVolumeClaim.ClaimName = "other"
	})
	if spec = w.vmi().Spec; hasVolume(&spec, "data") {
		t.Errorf("the old claim is still plugged: %+v", spec.Volumes)
	}
	w.reconcile()
	if spec = w.vmi().Spec; hasVolume(&spec, "data") {
		t.Error("plugged while the old one is still being unplugged")
	}
	vmi = w.vmi()
	vmi.Status.VolumeStatus = nil
	if err := w.c.Update(context.Background(), vmi); err != nil {
		t.Fatal(err)
	}
	w.reconcile()
	if spec = w.vmi().Spec; !hasVolume(&spec, "data") || spec.Volumes[len(spec.Volumes)-1].PersistentVolumeClaim.ClaimName != "other" {
		t.Errorf("the new claim is not plugged: %+v", spec.Volumes)
	}
}

// The older way of plugging leaves a request in the status: it ends up in the template, and the request goes.
func TestVolumeRequests(t *testing.T) {
	w := live(t)
	vm := w.vm()
	source := &v1.HotplugVolumeSource{PersistentVolumeClaim: claimed("data").PersistentVolumeClaim}
	vm.Status.VolumeRequests = []v1.VirtualMachineVolumeRequest{{AddVolumeOptions: &v1.AddVolumeOptions{
		Name: "data", Disk: &v1.Disk{DiskDevice: v1.DiskDevice{Disk: &v1.DiskTarget{Bus: v1.DiskBusSCSI}}}, VolumeSource: source,
	}}}
	if err := w.c.Status().Update(context.Background(), vm); err != nil {
		t.Fatal(err)
	}
	w.reconcile()
	w.reconcile()
	if vm = w.vm(); !hasVolume(&vm.Spec.Template.Spec, "data") || len(vm.Status.VolumeRequests) != 0 {
		t.Errorf("volumes %+v, requests %+v", vm.Spec.Template.Spec.Volumes, vm.Status.VolumeRequests)
	}
}

// A dump's request as its user sees it, to the end; the claim stays the VM's until it is let go.
func TestMemoryDump(t *testing.T) {
	w := live(t)
	ask := func(request *v1.VirtualMachineMemoryDumpRequest) {
		t.Helper()
		vm := w.vm()
		vm.Status.MemoryDumpRequest = request
		if err := w.c.Status().Update(context.Background(), vm); err != nil {
			t.Fatal(err)
		}
		w.reconcile()
		w.reconcile()
	}
	plug := func(status ...v1.VolumeStatus) {
		t.Helper()
		vmi := w.vmi()
		vmi.Status.VolumeStatus = status
		if err := w.c.Update(context.Background(), vmi); err != nil {
			t.Fatal(err)
		}
		w.reconcile()
	}
	ask(&v1.VirtualMachineMemoryDumpRequest{ClaimName: "dump", Phase: v1.MemoryDumpAssociating})
	vm, vmi := w.vm(), w.vmi()
	if !hasVolume(&vm.Spec.Template.Spec, "dump") || !hasVolume(&vmi.Spec, "dump") || vm.Status.MemoryDumpRequest.Phase != v1.MemoryDumpInProgress {
		t.Fatalf("begun: VM %+v, VMI %+v, request %+v", vm.Spec.Template.Spec.Volumes, vmi.Spec.Volumes, vm.Status.MemoryDumpRequest)
	}
	if w.restartRequired() {
		t.Error("a dump asks for a restart")
	}
	plug(v1.VolumeStatus{Name: "dump", Phase: v1.MemoryDumpVolumeCompleted, MemoryDumpVolume: &v1.DomainMemoryDumpInfo{TargetFileName: "web.memory.dump"}})
	if vm, vmi = w.vm(), w.vmi(); vm.Status.MemoryDumpRequest.Phase != v1.MemoryDumpUnmounting || *vm.Status.MemoryDumpRequest.FileName != "web.memory.dump" || hasVolume(&vmi.Spec, "dump") {
		t.Errorf("written: request %+v, VMI %+v", vm.Status.MemoryDumpRequest, vmi.Spec.Volumes)
	}
	plug()
	if vm = w.vm(); vm.Status.MemoryDumpRequest.Phase != v1.MemoryDumpCompleted || !hasVolume(&vm.Spec.Template.Spec, "dump") {
		t.Errorf("done: request %+v", vm.Status.MemoryDumpRequest)
	}
	ask(&v1.VirtualMachineMemoryDumpRequest{ClaimName: "dump", Phase: v1.MemoryDumpDissociating, Remove: true})
	w.reconcile()
	if vm = w.vm(); vm.Status.MemoryDumpRequest != nil || hasVolume(&vm.Spec.Template.Spec, "dump") {
		t.Errorf("let go: request %+v, volumes %+v", vm.Status.MemoryDumpRequest, vm.Spec.Template.Spec.Volumes)
	}
}
