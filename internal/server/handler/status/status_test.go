package status

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/libvirt/wire"
	"virtctl/internal/network"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func vmiWith(change func(*v1.VirtualMachineInstance)) *v1.VirtualMachineInstance {
	vmi := &v1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}}
	memory := resource.MustParse("128Mi")
	vmi.Spec.Domain.Memory = &v1.Memory{Guest: &memory}
	vmi.Spec.Domain.Devices.Interfaces = []v1.Interface{{
		Name: "default", InterfaceBindingMethod: v1.InterfaceBindingMethod{Masquerade: &v1.InterfaceMasquerade{}},
	}}
	vmi.Spec.Networks = []v1.Network{{Name: "default", NetworkSource: v1.NetworkSource{Pod: &v1.PodNetwork{}}}}
	if change != nil {
		change(vmi)
	}
	return vmi
}

func observed(state wire.DomainState, reason wire.Reason) *Observed {
	return &Observed{
		Now: now, Node: "node01", PodUID: "pod", State: wire.State{State: state, Reason: reason}, HostModel: true,
		Domain: &Domain{Machine: "pc-q35-10.0"},
		Plan: network.Plan{Interfaces: []network.Interface{{
			Name: "default", Binding: network.Masquerade, PodLink: "eth0", MAC: "02:00:00:00:00:07",
			Addrs: []netip.Addr{netip.MustParseAddr("10.244.0.5"), netip.MustParseAddr("fd00::5")},
		}}},
	}
}

// The contract's table: a VM's run strategy acts on these phases.
func TestPhase(t *testing.T) {
	zero, no := int64(0), false
	noGrace := func(vmi *v1.VirtualMachineInstance) { vmi.Spec.TerminationGracePeriodSeconds = &zero }
	noACPI := func(vmi *v1.VirtualMachineInstance) {
		vmi.Spec.Domain.Features = &v1.Features{ACPI: v1.FeatureState{Enabled: &no}}
	}
	for _, c := range []struct {
		state  wire.DomainState
		reason wire.Reason
		change func(*v1.VirtualMachineInstance)
		want   v1.VirtualMachineInstancePhase
	}{
		{wire.StateNone, "", nil, v1.Scheduled},
		{wire.StateRunning, wire.ReasonBooted, nil, v1.Running},
		{wire.StatePaused, wire.ReasonIOError, nil, v1.Running},
		{wire.StatePaused, wire.ReasonPostCopyFailed, nil, v1.Failed},
		{wire.StateShutdown, wire.ReasonUser, nil, v1.Running},
		{wire.StateShutoff, wire.ReasonShutdown, nil, v1.Succeeded},
		{wire.StateShutoff, wire.ReasonCrashed, nil, v1.Failed},
		{wire.StateShutoff, wire.ReasonPanicked, nil, v1.Failed},
		{wire.StateShutoff, wire.ReasonMigrated, nil, v1.Scheduled},
		{wire.StateShutoff, wire.ReasonDestroyed, nil, v1.Failed},
		{wire.StateShutoff, wire.ReasonDestroyed, noGrace, v1.Succeeded},
		{wire.StateShutoff, wire.ReasonDestroyed, noACPI, v1.Succeeded},
		{wire.StateCrashed, "", nil, v1.Failed},
	} {
		if got := Phase(vmiWith(c.change), v1.Scheduled, wire.State{State: c.state, Reason: c.reason}); got != c.want {
			t.Errorf("%s/%s: %s, want %s", c.state, c.reason, got, c.want)
		}
	}
}

// A guest decides what its agent says; the object must not grow without bound (CVE-2025-14525).
func TestGuestInterfacesAreBounded(t *testing.T) {
	o := observed(wire.StateRunning, wire.ReasonBooted)
	o.Agent = true
	o.Guest = &wire.GuestInfo{Interfaces: []wire.GuestInterface{
		{Name: "lo", MAC: "00:00:00:00:00:00", IPs: []string{"127.0.0.1"}},
		{Name: "enp1s0", MAC: "02:00:00:00:00:07", IPs: []string{"10.0.2.2", "fe80::1"}},
	}}
	for i := range 500 {
		g := wire.GuestInterface{Name: strings.Repeat("x", 500), MAC: fmt.Sprintf("0a:00:00:00:%02x:%02x", i/256, i%256)}
		for j := range 500 {
			g.IPs = append(g.IPs, fmt.Sprintf("10.1.%d.%d", j/256, j%256))
		}
		o.Guest.Interfaces = append(o.Guest.Interfaces, g)
	}
	status := &v1.VirtualMachineInstanceStatus{}
	Apply(vmiWith(nil), status, o)
	first := status.Interfaces[0]
	if first.IP != "10.244.0.5" || len(first.IPs) != 2 || first.InterfaceName != "enp1s0" || first.InfoSource != "domain, guest-agent" {
		t.Errorf("the masqueraded interface: %+v", first)
	}
	if len(status.Interfaces) != 1+maxGuestInterfaces {
		t.Errorf("%d interfaces", len(status.Interfaces))
	}
	for _, i := range status.Interfaces[1:] {
		if len(i.IPs) > maxGuestIPs || len(i.InterfaceName) > maxGuestName {
			t.Fatalf("unbounded: %d addresses, name of %d", len(i.IPs), len(i.InterfaceName))
		}
	}
}

func TestBridgedGuestTellsItsAddress(t *testing.T) {
	o := observed(wire.StateRunning, wire.ReasonBooted)
	o.Plan.Interfaces[0].Binding = network.Bridge
	o.Agent = true
	o.Guest = &wire.GuestInfo{Interfaces: []wire.GuestInterface{{Name: "eth0", MAC: "02:00:00:00:00:07", IPs: []string{"192.168.1.9"}}}}
	status := &v1.VirtualMachineInstanceStatus{}
	Apply(vmiWith(nil), status, o)
	if status.Interfaces[0].IP != "192.168.1.9" {
		t.Errorf("interface %+v", status.Interfaces[0])
	}
}

// Applying the same twice must change nothing, or an idle cluster writes.
func TestApplyTwice(t *testing.T) {
	for _, state := range []wire.DomainState{wire.StateRunning, wire.StatePaused} {
		status := &v1.VirtualMachineInstanceStatus{Phase: v1.Scheduling}
		o := observed(state, wire.ReasonUser)
		Apply(vmiWith(nil), status, o)
		before := status.DeepCopy()
		o.Now = now.Add(time.Hour)
		Apply(vmiWith(nil), status, o)
		if d := cmp.Diff(before, status); d != "" {
			t.Errorf("%s:\n%s", state, d)
		}
	}
}

func TestFailureComesAndGoes(t *testing.T) {
	status := &v1.VirtualMachineInstanceStatus{Phase: v1.Scheduling}
	o := observed(wire.StateNone, "")
	o.Failure = errors.New(strings.Repeat("volume root: the image has a backing file ✗ ", 100))
	Apply(vmiWith(nil), status, o)
	c := find(status, v1.VirtualMachineInstanceSynchronized)
	if status.Phase != v1.Scheduled || c == nil || c.Status != corev1.ConditionFalse || len(c.Message) > maxMessage+4 {
		t.Fatalf("phase %s, condition %+v", status.Phase, c)
	}
	Apply(vmiWith(nil), status, observed(wire.StateRunning, wire.ReasonBooted))
	if status.Phase != v1.Running || find(status, v1.VirtualMachineInstanceSynchronized) != nil {
		t.Errorf("phase %s, conditions %+v", status.Phase, status.Conditions)
	}
}

func find(status *v1.VirtualMachineInstanceStatus, kind v1.VirtualMachineInstanceConditionType) *v1.VirtualMachineInstanceCondition {
	for i := range status.Conditions {
		if status.Conditions[i].Type == kind {
			return &status.Conditions[i]
		}
	}
	return nil
}

// Users, and the refusal of evictionStrategy LiveMigrate, go by these reasons.
func TestMigratable(t *testing.T) {
	claim := func(mode corev1.PersistentVolumeAccessMode) func(*v1.VirtualMachineInstance) {
		return func(vmi *v1.VirtualMachineInstance) {
			source := &v1.PersistentVolumeClaimVolumeSource{}
			source.ClaimName = "data"
			vmi.Spec.Volumes = []v1.Volume{{Name: "d", VolumeSource: v1.VolumeSource{PersistentVolumeClaim: source}}}
			vmi.Status.VolumeStatus = []v1.VolumeStatus{{Name: "d", PersistentVolumeClaimInfo: &v1.PersistentVolumeClaimInfo{
				AccessModes: []corev1.PersistentVolumeAccessMode{mode},
			}}}
		}
	}
	for name, c := range map[string]struct {
		change    func(*v1.VirtualMachineInstance)
		hostModel bool
		reason    string
		storage   string
		method    v1.VirtualMachineInstanceMigrationMethod
	}{
		"plain":       {nil, true, "", "", v1.LiveMigration},
		"shared disk": {claim(corev1.ReadWriteMany), true, "", "", v1.LiveMigration},
		"local disk":  {claim(corev1.ReadWriteOnce), true, "DisksNotLiveMigratable", "", v1.LiveMigration},
		"container disk": {func(vmi *v1.VirtualMachineInstance) {
			vmi.Spec.Volumes = []v1.Volume{{Name: "d", VolumeSource: v1.VolumeSource{ContainerDisk: &v1.ContainerDiskSource{}}}}
		}, true, "", "", v1.BlockMigration},
		"container disk in a drive": {func(vmi *v1.VirtualMachineInstance) {
			vmi.Spec.Volumes = []v1.Volume{{Name: "d", VolumeSource: v1.VolumeSource{ContainerDisk: &v1.ContainerDiskSource{}}}}
			vmi.Spec.Domain.Devices.Disks = []v1.Disk{{Name: "d", DiskDevice: v1.DiskDevice{CDRom: &v1.CDRomTarget{}}}}
		}, true, "", "", v1.LiveMigration},
		"bridge": {func(vmi *v1.VirtualMachineInstance) {
			vmi.Spec.Domain.Devices.Interfaces[0].InterfaceBindingMethod = v1.InterfaceBindingMethod{Bridge: &v1.InterfaceBridge{}}
		}, true, "InterfaceNotLiveMigratable", "InterfaceNotLiveMigratable", v1.LiveMigration},
		"allowed bridge": {func(vmi *v1.VirtualMachineInstance) {
			vmi.Spec.Domain.Devices.Interfaces[0].InterfaceBindingMethod = v1.InterfaceBindingMethod{Bridge: &v1.InterfaceBridge{}}
			vmi.Annotations = map[string]string{v1.AllowPodBridgeNetworkLiveMigrationAnnotation: ""}
		}, true, "", "", v1.LiveMigration},
		"state on a local claim": {func(vmi *v1.VirtualMachineInstance) {
			vmi.Status.VolumeStatus = []v1.VolumeStatus{{Name: "persistent-state-for-vm-x1", PersistentVolumeClaimInfo: &v1.PersistentVolumeClaimInfo{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			}}}
		}, true, "DisksNotLiveMigratable", "", v1.LiveMigration},
		"unknown host model": {nil, false, "CPUModeLiveMigratable", "CPUModeLiveMigratable", v1.LiveMigration},
		"named model":        {func(vmi *v1.VirtualMachineInstance) { vmi.Spec.Domain.CPU = &v1.CPU{Model: "Penryn"} }, false, "", "", v1.LiveMigration},
		"host device": {func(vmi *v1.VirtualMachineInstance) {
			vmi.Spec.Domain.Devices.HostDevices = []v1.HostDevice{{Name: "x"}}
		}, true, "HostDeviceNotLiveMigratable", "HostDeviceNotLiveMigratable", v1.LiveMigration},
	} {
		t.Run(name, func(t *testing.T) {
			vmi := vmiWith(c.change)
			o := observed(wire.StateRunning, wire.ReasonBooted)
			o.HostModel = c.hostModel
			status := vmi.Status.DeepCopy()
			Apply(vmi, status, o)
			live, storage := find(status, v1.VirtualMachineInstanceIsMigratable), find(status, v1.VirtualMachineInstanceIsStorageLiveMigratable)
			if live == nil || live.Reason != c.reason || (live.Status == corev1.ConditionTrue) != (c.reason == "") {
				t.Errorf("LiveMigratable %+v, want reason %q", live, c.reason)
			}
			if storage == nil || storage.Reason != c.storage {
				t.Errorf("StorageLiveMigratable %+v, want reason %q", storage, c.storage)
			}
			if status.MigrationMethod != c.method {
				t.Errorf("method %s, want %s", status.MigrationMethod, c.method)
			}
		})
	}
}

func TestParseDomain(t *testing.T) {
	d, err := ParseDomain(`<domain type="qemu"><name>a_b</name><currentMemory unit="KiB">131072</currentMemory>
<vcpu placement="static" current="2">8</vcpu><os><type arch="x86_64" machine="pc-q35-10.0">hvm</type></os>
<cpu><topology sockets="4" dies="1" cores="2" threads="1"/></cpu>
<devices><disk type="file" device="disk"><target dev="vda" bus="virtio"/><alias name="ua-root"/></disk></devices></domain>`)
	if err != nil {
		t.Fatal(err)
	}
	if d.Machine != "pc-q35-10.0" || d.MemoryBytes != 128<<20 || d.Topology.Sockets != 1 || d.Topology.Cores != 2 || d.Targets["root"] != "vda" {
		t.Errorf("%+v", d)
	}
}

// The document comes from a pod that a guest may have broken out into.
func FuzzParseDomain(f *testing.F) {
	f.Add(`<domain><os><type machine="x">hvm</type></os></domain>`)
	f.Add(`<domain><vcpu current="0">0</vcpu><cpu><topology sockets="0" cores="0" threads="0"/></cpu></domain>`)
	f.Fuzz(func(_ *testing.T, s string) { _, _ = ParseDomain(s) })
}
