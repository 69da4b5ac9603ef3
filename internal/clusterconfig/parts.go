package clusterconfig

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	v1 "kubevirt.io/api/core/v1"
)

// Machine is what the cluster says about one architecture.
type Machine struct {
	// Type is the machine type of VMs that name none.
	Type string
	// Emulated are globs of the machine types VMs may name.
	Emulated []string
	// FirmwareDir is where the administrator says the UEFI images are; empty leaves it to the launcher image.
	FirmwareDir string
}

// Machines holds a Machine per architecture.
type Machines map[string]Machine

// For gives the architecture's machine; an architecture we do not know has an empty one.
func (m Machines) For(arch string) Machine { return m[arch] }

func machines(spec *v1.KubeVirtConfiguration) Machines {
	m := Machines{
		"amd64": {Type: "q35", Emulated: []string{"q35*", "pc-q35*"}},
		"arm64": {Type: "virt", Emulated: []string{"virt*"}},
		"s390x": {Type: "s390-ccw-virtio", Emulated: []string{"s390-ccw-virtio*"}},
	}
	// The fields outside architectureConfiguration are deprecated and from a time when there was only amd64.
	override(m, "amd64", &v1.ArchSpecificConfiguration{
		MachineType: spec.MachineType, EmulatedMachines: spec.EmulatedMachines, OVMFPath: spec.OVMFPath,
	})
	if a := spec.ArchitectureConfiguration; a != nil {
		override(m, "amd64", a.Amd64)
		override(m, "arm64", a.Arm64)
		override(m, "s390x", a.S390x)
	}
	return m
}

func override(m Machines, arch string, with *v1.ArchSpecificConfiguration) {
	if with == nil {
		return
	}
	machine := m[arch]
	if with.MachineType != "" {
		machine.Type = with.MachineType
	}
	if len(with.EmulatedMachines) > 0 {
		machine.Emulated = with.EmulatedMachines
	}
	if with.OVMFPath != "" {
		machine.FirmwareDir = with.OVMFPath
	}
	m[arch] = machine
}

func compute(spec *v1.KubeVirtConfiguration, dev *v1.DeveloperConfiguration) Compute {
	c := Compute{
		CPUModel:               spec.CPUModel,
		CPURequest:             spec.CPURequest,
		CPUAllocationRatio:     positive(dev.CPUAllocationRatio, 10),
		MemoryOvercommit:       positive(dev.MemoryOvercommit, 100),
		OverheadRatio:          1,
		ObsoleteCPUModels:      obsoleteModels(spec.ObsoleteCPUModels),
		MinCPUModel:            spec.DeprecatedMinCPUModel,
		AutoCPULimitNamespaces: spec.AutoCPULimitNamespaceLabelSelector,
		MinimumTSCFrequency:    dev.MinimumClusterTSCFrequency,
	}
	if r := spec.AdditionalGuestMemoryOverheadRatio; r != nil {
		// A ratio that does not parse is as good as none: a VM must not fail to start over it.
		if ratio, err := strconv.ParseFloat(*r, 64); err == nil && ratio > 0 && ratio <= maxOverheadRatio {
			c.OverheadRatio = ratio
		}
	}
	if n := spec.VirtualMachineInstancesPerNode; n != nil && *n > 0 {
		c.InstancesPerNode = *n
	}
	return c
}

// maxOverheadRatio keeps a mistyped ratio (and infinity) from overflowing a pod's memory request.
const maxOverheadRatio = 1000

// obsoleteModels are CPU models too old to be offered, unless the CR names its own set.
func obsoleteModels(own map[string]bool) map[string]bool {
	if own != nil {
		return own
	}
	return set([]string{
		"486", "486-v1", "pentium", "pentium-v1", "pentium2", "pentium2-v1", "pentium3", "pentium3-v1",
		"pentiumpro", "coreduo", "coreduo-v1", "n270", "n270-v1", "core2duo", "core2duo-v1", "Conroe", "Conroe-v1",
		"athlon", "athlon-v1", "phenom", "phenom-v1", "qemu64", "qemu64-v1", "qemu32", "qemu32-v1", "kvm64", "kvm64-v1",
		"kvm32", "kvm32-v1", "Opteron_G1", "Opteron_G1-v1", "Opteron_G2", "Opteron_G2-v1",
	})
}

func network(set *v1.NetworkConfiguration) Network {
	n := Network{DefaultBinding: string(v1.BridgeInterface), PermitBridgeOnPodNetwork: true}
	if set == nil {
		return n
	}
	if set.NetworkInterface != "" {
		n.DefaultBinding = set.NetworkInterface
	}
	if set.PermitBridgeInterfaceOnPodNetwork != nil {
		n.PermitBridgeOnPodNetwork = *set.PermitBridgeInterfaceOnPodNetwork
	}
	n.BindingPlugins = set.Binding
	return n
}

func launcher(spec *v1.KubeVirtConfiguration, dev *v1.DeveloperConfiguration) Launcher {
	l := Launcher{
		NodeSelector:        dev.NodeSelectors,
		ImagePullPolicy:     spec.ImagePullPolicy,
		RuntimeClass:        spec.DefaultRuntimeClass,
		SELinuxType:         spec.SELinuxLauncherType,
		Support:             map[v1.SupportContainerType]corev1.ResourceRequirements{},
		SerialConsoleLog:    true,
		FreePageReporting:   true,
		BalloonStatsSeconds: 10,
	}
	if s := spec.SeccompConfiguration; s != nil && s.VirtualMachineInstanceProfile != nil {
		l.Seccomp = s.VirtualMachineInstanceProfile.CustomProfile
	}
	for _, s := range spec.SupportContainerResources {
		l.Support[s.Type] = corev1.ResourceRequirements{Requests: s.Resources.Requests, Limits: s.Resources.Limits}
	}
	if o := spec.VirtualMachineOptions; o != nil {
		l.SerialConsoleLog = o.DisableSerialConsoleLog == nil
		l.FreePageReporting = o.DisableFreePageReporting == nil
	}
	if spec.MemBalloonStatsPeriod != nil {
		l.BalloonStatsSeconds = *spec.MemBalloonStatsPeriod
	}
	return l
}

func liveUpdate(set *v1.LiveUpdateConfiguration) LiveUpdate {
	l := LiveUpdate{MaxHotplugRatio: 4}
	if set == nil {
		return l
	}
	if set.MaxHotplugRatio > 0 {
		l.MaxHotplugRatio = set.MaxHotplugRatio
	}
	l.MaxCPUSockets, l.MaxGuest = set.MaxCpuSockets, set.MaxGuest
	return l
}

func storage(spec *v1.KubeVirtConfiguration, dev *v1.DeveloperConfiguration) Storage {
	s := Storage{
		LessSpacePercent:    positive(dev.LessPVCSpaceToleration, 10),
		ReserveBytes:        131072,
		DiskMemoryLimit:     resource.MustParse("2000Mi"),
		VMStateStorageClass: spec.VMStateStorageClass,
	}
	if dev.MinimumReservePVCBytes > 0 {
		s.ReserveBytes = dev.MinimumReservePVCBytes
	}
	if v := dev.DiskVerification; v != nil && v.MemoryLimit != nil {
		s.DiskMemoryLimit = *v.MemoryLimit
	}
	return s
}

// positive gives n, or the default when the CR leaves it out or sets nonsense.
func positive(n, byDefault int) int {
	if n > 0 {
		return n
	}
	return byDefault
}
