package catalog

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
	"kubevirt.io/api/instancetype/v1beta1"
)

// system is an operating system with what it needs at least.
type system struct {
	name, display string
	cpus          uint32
	memory        string
	shape         func(*v1beta1.VirtualMachinePreferenceSpec)
}

var systems = []system{
	{"alpine", "Alpine Linux", 1, "512Mi", linux},
	{"centos.stream9", "CentOS Stream 9", 1, "1536Mi", modernLinux},
	{"centos.stream9.desktop", "CentOS Stream 9 with a desktop", 1, "3Gi", desktop},
	{"centos.stream10", "CentOS Stream 10", 1, "1536Mi", modernLinux},
	{"centos.stream10.desktop", "CentOS Stream 10 with a desktop", 1, "3Gi", desktop},
	{"cirros", "CirrOS", 1, "256Mi", linux},
	{"debian", "Debian", 1, "512Mi", modernLinux},
	{"fedora", "Fedora", 1, "1Gi", modernLinux},
	{"linux", "Linux", 1, "512Mi", linux},
	{"linux.efi", "Linux booting by EFI", 1, "512Mi", efiLinux},
	{"opensuse.leap", "openSUSE Leap", 1, "1Gi", modernLinux},
	{"opensuse.tumbleweed", "openSUSE Tumbleweed", 1, "1Gi", modernLinux},
	{"rhel.8", "Red Hat Enterprise Linux 8", 1, "1536Mi", linux},
	{"rhel.8.desktop", "Red Hat Enterprise Linux 8 with a desktop", 1, "3Gi", desktop},
	{"rhel.9", "Red Hat Enterprise Linux 9", 1, "1536Mi", modernLinux},
	{"rhel.9.desktop", "Red Hat Enterprise Linux 9 with a desktop", 1, "3Gi", desktop},
	{"rhel.9.dpdk", "Red Hat Enterprise Linux 9 for DPDK", 1, "1536Mi", dpdk},
	{"rhel.9.realtime", "Red Hat Enterprise Linux 9 for real time", 4, "1536Mi", modernLinux},
	{"rhel.10", "Red Hat Enterprise Linux 10", 1, "1536Mi", modernLinux},
	{"sles", "SUSE Linux Enterprise Server", 1, "1Gi", modernLinux},
	{"ubuntu", "Ubuntu", 1, "1Gi", modernLinux},
	{"windows.10", "Windows 10", 1, "2Gi", windows},
	{"windows.10.virtio", "Windows 10 with virtio drivers", 1, "2Gi", windowsVirtio},
	{"windows.11", "Windows 11", 2, "4Gi", windows11},
	{"windows.11.virtio", "Windows 11 with virtio drivers", 2, "4Gi", windows11Virtio},
	{"windows.2k16", "Windows Server 2016", 1, "512Mi", windows},
	{"windows.2k16.virtio", "Windows Server 2016 with virtio drivers", 1, "512Mi", windowsVirtio},
	{"windows.2k19", "Windows Server 2019", 1, "512Mi", windows},
	{"windows.2k19.virtio", "Windows Server 2019 with virtio drivers", 1, "512Mi", windowsVirtio},
	{"windows.2k22", "Windows Server 2022", 1, "512Mi", windows11},
	{"windows.2k22.virtio", "Windows Server 2022 with virtio drivers", 1, "512Mi", windows11Virtio},
	{"windows.2k25", "Windows Server 2025", 1, "512Mi", windows11},
	{"windows.2k25.virtio", "Windows Server 2025 with virtio drivers", 1, "512Mi", windows11Virtio},
}

// Preferences is every cluster preference of the set.
func Preferences() []*v1beta1.VirtualMachineClusterPreference {
	var out []*v1beta1.VirtualMachineClusterPreference
	for _, s := range systems {
		spec := v1beta1.VirtualMachinePreferenceSpec{Requirements: &v1beta1.PreferenceRequirements{
			CPU:    &v1beta1.CPUPreferenceRequirement{Guest: s.cpus},
			Memory: &v1beta1.MemoryPreferenceRequirement{Guest: resource.MustParse(s.memory)},
		}}
		s.shape(&spec)
		out = append(out, &v1beta1.VirtualMachineClusterPreference{
			TypeMeta: metav1.TypeMeta{APIVersion: v1beta1.SchemeGroupVersion.String(), Kind: "VirtualMachineClusterPreference"},
			ObjectMeta: metav1.ObjectMeta{
				Name:        s.name,
				Labels:      map[string]string{"instancetype.kubevirt.io/vendor": Vendor},
				Annotations: map[string]string{"openshift.io/display-name": s.display},
			},
			Spec: spec,
		})
	}
	return out
}

func devices(p *v1beta1.VirtualMachinePreferenceSpec) *v1beta1.DevicePreferences {
	if p.Devices == nil {
		p.Devices = &v1beta1.DevicePreferences{}
	}
	return p.Devices
}

func linux(p *v1beta1.VirtualMachinePreferenceSpec) {
	d := devices(p)
	d.PreferredDiskBus, d.PreferredInterfaceModel, d.PreferredRng = v1.DiskBusVirtio, "virtio", &v1.Rng{}
}

func efiLinux(p *v1beta1.VirtualMachinePreferenceSpec) {
	linux(p)
	insecure := false
	p.Firmware = &v1beta1.FirmwarePreferences{PreferredEfi: &v1.EFI{SecureBoot: &insecure}}
}

func modernLinux(p *v1beta1.VirtualMachinePreferenceSpec) {
	linux(p)
	secureBoot(p)
}

func desktop(p *v1beta1.VirtualMachinePreferenceSpec) {
	modernLinux(p)
	d := devices(p)
	yes := true
	d.PreferredAutoattachInputDevice = &yes
	d.PreferredInputBus, d.PreferredInputType = v1.InputBusVirtio, v1.InputTypeTablet
}

func dpdk(p *v1beta1.VirtualMachinePreferenceSpec) {
	modernLinux(p)
	yes := true
	devices(p).PreferredNetworkInterfaceMultiQueue = &yes
}

func secureBoot(p *v1beta1.VirtualMachinePreferenceSpec) {
	yes := true
	p.Firmware = &v1beta1.FirmwarePreferences{PreferredEfi: &v1.EFI{SecureBoot: &yes}}
	if p.Features == nil {
		p.Features = &v1beta1.FeaturePreferences{}
	}
	p.Features.PreferredSmm = &v1.FeatureState{}
}

// windows prefers devices that Windows knows without further drivers.
func windows(p *v1beta1.VirtualMachinePreferenceSpec) {
	cores := v1beta1.Sockets
	yes, no := true, false
	retries := uint32(8191)
	p.CPU = &v1beta1.CPUPreferences{PreferredCPUTopology: &cores}
	p.Clock = &v1beta1.ClockPreferences{
		PreferredClockOffset: &v1.ClockOffset{UTC: &v1.ClockOffsetUTC{}},
		PreferredTimer: &v1.Timer{
			HPET: &v1.HPETTimer{Enabled: &no}, PIT: &v1.PITTimer{TickPolicy: v1.PITTickPolicyDelay},
			RTC: &v1.RTCTimer{TickPolicy: v1.RTCTickPolicyCatchup}, Hyperv: &v1.HypervTimer{},
		},
	}
	on := &v1.FeatureState{}
	p.Features = &v1beta1.FeaturePreferences{
		PreferredAcpi: on, PreferredApic: &v1.FeatureAPIC{},
		PreferredHyperv: &v1.FeatureHyperv{
			Relaxed: on, VAPIC: on, VPIndex: on, Runtime: on, SyNIC: on, Reset: on, Frequencies: on, IPI: on, TLBFlush: &v1.TLBFlush{},
			SyNICTimer: &v1.SyNICTimer{Direct: on}, Spinlocks: &v1.FeatureSpinlocks{Retries: &retries},
		},
	}
	d := devices(p)
	d.PreferredDiskBus, d.PreferredCdromBus, d.PreferredInterfaceModel = v1.DiskBusSATA, v1.DiskBusSATA, "e1000e"
	d.PreferredInputBus, d.PreferredInputType = v1.InputBusUSB, v1.InputTypeTablet
	d.PreferredAutoattachInputDevice = &yes
}

func windowsVirtio(p *v1beta1.VirtualMachinePreferenceSpec) {
	windows(p)
	d := devices(p)
	d.PreferredDiskBus, d.PreferredInterfaceModel = v1.DiskBusVirtio, "virtio"
}

func windows11(p *v1beta1.VirtualMachinePreferenceSpec) {
	windows(p)
	trusted(p)
}

func windows11Virtio(p *v1beta1.VirtualMachinePreferenceSpec) {
	windowsVirtio(p)
	trusted(p)
}

// trusted is what Windows 11 and newer servers ask for: secure boot and a TPM that remembers.
func trusted(p *v1beta1.VirtualMachinePreferenceSpec) {
	secureBoot(p)
	yes := true
	p.Firmware.PreferredEfi.Persistent = &yes
	devices(p).PreferredTPM = &v1.TPMDevice{Persistent: &yes}
}
