package instancetype

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"
	"kubevirt.io/api/instancetype/v1beta1"
)

func small() *v1beta1.VirtualMachineInstancetypeSpec {
	return &v1beta1.VirtualMachineInstancetypeSpec{
		CPU:    v1beta1.CPUInstancetype{Guest: 4},
		Memory: v1beta1.MemoryInstancetype{Guest: resource.MustParse("1Gi")},
	}
}

func topology(kind v1beta1.PreferredCPUTopology, options *v1beta1.SpreadOptions) *v1beta1.VirtualMachinePreferenceSpec {
	return &v1beta1.VirtualMachinePreferenceSpec{CPU: &v1beta1.CPUPreferences{PreferredCPUTopology: &kind, SpreadOptions: options}}
}

func TestTopologyFollowsThePreference(t *testing.T) {
	three := v1beta1.SpreadAcrossSocketsCoresThreads
	two := v1beta1.SpreadAcrossCoresThreads
	cases := map[string]struct {
		preference              *v1beta1.VirtualMachinePreferenceSpec
		sockets, cores, threads uint32
	}{
		"no preference":     {nil, 4, 1, 1},
		"sockets":           {topology(v1beta1.Sockets, nil), 4, 1, 1},
		"cores":             {topology(v1beta1.Cores, nil), 1, 4, 1},
		"old name of cores": {topology(v1beta1.DeprecatedPreferCores, nil), 1, 4, 1},
		"threads":           {topology(v1beta1.Threads, nil), 1, 1, 4},
		"spread":            {topology(v1beta1.Spread, nil), 2, 2, 1},
		"spread over three": {topology(v1beta1.Spread, &v1beta1.SpreadOptions{Across: &three}), 1, 2, 2},
		"cores and threads": {topology(v1beta1.Spread, &v1beta1.SpreadOptions{Across: &two}), 1, 2, 2},
		"any":               {topology(v1beta1.Any, nil), 4, 1, 1},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			spec := &v1.VirtualMachineInstanceSpec{}
			Types{small(), c.preference}.Apply(&metav1.ObjectMeta{}, spec)
			cpu := spec.Domain.CPU
			if cpu.Sockets != c.sockets || cpu.Cores != c.cores || cpu.Threads != c.threads {
				t.Errorf("got %d sockets, %d cores, %d threads; want %d, %d, %d", cpu.Sockets, cpu.Cores, cpu.Threads, c.sockets, c.cores, c.threads)
			}
			if got := spec.Domain.Memory.Guest.String(); got != "1Gi" {
				t.Errorf("guest memory is %s", got)
			}
		})
	}
}

func TestInstancetypeWinsByConflict(t *testing.T) {
	yes := true
	it := small()
	it.CPU.DedicatedCPUPlacement = &yes
	it.NodeSelector = map[string]string{"zone": "a"}
	spec := &v1.VirtualMachineInstanceSpec{NodeSelector: map[string]string{"zone": "b"}}
	guest := resource.MustParse("2Gi")
	spec.Domain.CPU = &v1.CPU{Cores: 2, DedicatedCPUPlacement: true}
	spec.Domain.Memory = &v1.Memory{Guest: &guest}
	spec.Domain.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}
	var got []string
	for _, p := range (Types{Instancetype: it}).Conflicts(field.NewPath("spec", "template", "spec"), spec) {
		got = append(got, p.String())
	}
	slices.Sort(got)
	want := []string{
		"spec.template.spec.domain.cpu.cores", "spec.template.spec.domain.cpu.dedicatedCpuPlacement",
		"spec.template.spec.domain.memory.guest", "spec.template.spec.domain.resources.requests.cpu",
		"spec.template.spec.nodeSelector[zone]",
	}
	if !slices.Equal(got, want) {
		t.Errorf("conflicts are\n%v, want\n%v", got, want)
	}
	if none := (Types{}).Conflicts(nil, spec); len(none) != 0 {
		t.Errorf("a machine without an instance type conflicts: %v", none)
	}
}

func TestPreferenceFillsOnlyWhatIsOpen(t *testing.T) {
	no, yes := false, true
	p := &v1beta1.VirtualMachinePreferenceSpec{
		Annotations: map[string]string{"a": "preferred", "b": "preferred"},
		Devices: &v1beta1.DevicePreferences{
			PreferredDiskBus: v1.DiskBusVirtio, PreferredCdromBus: v1.DiskBusSATA, PreferredInterfaceModel: "virtio",
			PreferredInterfaceMasquerade: &v1.InterfaceMasquerade{}, PreferredTPM: &v1.TPMDevice{}, PreferredAutoattachGraphicsDevice: &no,
		},
		Firmware: &v1beta1.FirmwarePreferences{PreferredEfi: &v1.EFI{SecureBoot: &yes}},
		Features: &v1beta1.FeaturePreferences{PreferredSmm: &v1.FeatureState{}},
		Machine:  &v1beta1.MachinePreferences{PreferredMachineType: "q35"},
	}
	spec := &v1.VirtualMachineInstanceSpec{}
	spec.Domain.Firmware = &v1.Firmware{Bootloader: &v1.Bootloader{BIOS: &v1.BIOS{}}}
	spec.Domain.Devices.Disks = []v1.Disk{
		{Name: "open"},
		{Name: "own", DiskDevice: v1.DiskDevice{Disk: &v1.DiskTarget{Bus: v1.DiskBusSCSI}}},
		{Name: "cd", DiskDevice: v1.DiskDevice{CDRom: &v1.CDRomTarget{}}},
	}
	spec.Domain.Devices.Interfaces = []v1.Interface{
		{Name: "open"}, {Name: "own", Model: "e1000e", InterfaceBindingMethod: v1.InterfaceBindingMethod{Bridge: &v1.InterfaceBridge{}}},
	}
	meta := &metav1.ObjectMeta{Annotations: map[string]string{"a": "own"}}
	Types{Preference: p}.Apply(meta, spec)
	d := spec.Domain.Devices
	for what, ok := range map[string]bool{
		"the open disk gets the bus":        d.Disks[0].Disk != nil && d.Disks[0].Disk.Bus == v1.DiskBusVirtio,
		"the own bus stays":                 d.Disks[1].Disk.Bus == v1.DiskBusSCSI,
		"the cdrom gets its own preference": d.Disks[2].CDRom.Bus == v1.DiskBusSATA && d.Disks[2].Disk == nil,
		"the open interface gets a binding": d.Interfaces[0].Masquerade != nil && d.Interfaces[0].Model == "virtio",
		"the own interface stays":           d.Interfaces[1].Masquerade == nil && d.Interfaces[1].Model == "e1000e",
		"the own firmware stays":            spec.Domain.Firmware.Bootloader.EFI == nil,
		"the TPM is added":                  d.TPM != nil,
		"graphics are off":                  d.AutoattachGraphicsDevice != nil && !*d.AutoattachGraphicsDevice,
		"the machine type is set":           spec.Domain.Machine.Type == "q35",
		"the own annotation stays":          meta.Annotations["a"] == "own" && meta.Annotations["b"] == "preferred",
		"SMM is on":                         spec.Domain.Features.SMM != nil,
	} {
		if !ok {
			t.Errorf("not so: %s", what)
		}
	}
	if p.Devices.PreferredTPM == d.TPM {
		t.Error("the machine shares memory with the preference")
	}
}

func TestRequirementsAreCheckedAfterTheInstancetype(t *testing.T) {
	p := &v1beta1.VirtualMachinePreferenceSpec{Requirements: &v1beta1.PreferenceRequirements{
		CPU: &v1beta1.CPUPreferenceRequirement{Guest: 2}, Memory: &v1beta1.MemoryPreferenceRequirement{Guest: resource.MustParse("2Gi")},
	}}
	types := Types{small(), p}
	spec := &v1.VirtualMachineInstanceSpec{}
	types.Apply(&metav1.ObjectMeta{}, spec)
	unmet := types.Unmet(field.NewPath("spec"), spec)
	if len(unmet) != 1 || unmet[0].Field != "spec.domain.memory.guest" {
		t.Errorf("unmet: %v, want the memory only", unmet)
	}
}
