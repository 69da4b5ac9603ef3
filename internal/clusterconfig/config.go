// Package clusterconfig turns the KubeVirt custom resource into one effective value: what the cluster's administrator set,
// completed with the contract's defaults. virt-api, virt-controller and virt-handler all read it from here, so that they
// never disagree about a default.
//
// The package needs no client. The follow package keeps a Source up to date from a cache.
package clusterconfig

import (
	"runtime"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
)

// Config is the effective configuration. Treat it as read-only: maps, slices and pointers may be shared with the cache.
type Config struct {
	// UseEmulation lets VMs run without hardware virtualization.
	UseEmulation bool
	// DefaultArchitecture is GOARCH style: amd64, arm64, s390x.
	DefaultArchitecture string

	Machines  Machines
	Compute   Compute
	Network   Network
	Migration Migration
	Launcher  Launcher
	Live      LiveUpdate
	Storage   Storage

	// EvictionStrategy is used by VMs that name none.
	EvictionStrategy v1.EvictionStrategy
	// RolloutStrategy says whether changes of a VM reach its running VMI.
	RolloutStrategy v1.VMRolloutStrategy
	// InstancetypePolicy says what happens to a VM's reference to an instance type.
	InstancetypePolicy v1.InstancetypeReferencePolicy
	// PermittedHostDevices is nil when none are.
	PermittedHostDevices *v1.PermittedHostDevices
	MediatedDevices      *v1.MediatedDevicesConfiguration
	KSM                  *v1.KSMConfiguration
	LogVerbosity         v1.LogVerbosity
	// TLS is nil when the servers' own defaults apply.
	TLS *v1.TLSConfiguration
	// GuestAgentVersions are globs of guest agent versions we support.
	GuestAgentVersions []string
	SMBIOS             v1.SMBiosConfiguration
	// RegistryHint and TagHint say where the platform's images come from when the CR names a place; empty otherwise.
	RegistryHint, TagHint string

	enabled, disabled map[string]bool
}

// Compute is how guest CPUs and memory turn into requests of the launcher pod.
type Compute struct {
	// CPUModel is for VMs that name none; empty leaves the choice to the architecture's default.
	CPUModel string
	// CPURequest is for VMs that request no CPU; nil derives it from the number of vCPUs and CPUAllocationRatio.
	CPURequest *resource.Quantity
	// CPUAllocationRatio is vCPUs per requested CPU.
	CPUAllocationRatio int
	// MemoryOvercommit is guest memory per requested memory in percent.
	MemoryOvercommit int
	// OverheadRatio multiplies the memory overhead of a VM.
	OverheadRatio float64
	// ObsoleteCPUModels and MinCPUModel filter what nodes advertise.
	ObsoleteCPUModels map[string]bool
	MinCPUModel       string
	// AutoCPULimitNamespaces selects the namespaces whose VMs get a CPU limit; nil means none.
	AutoCPULimitNamespaces *metav1.LabelSelector
	// MinimumTSCFrequency overrides the cluster's lowest TSC frequency, in Hz.
	MinimumTSCFrequency *int64
	// InstancesPerNode is the most VMs a node offers to run; 0 means no limit of ours.
	InstancesPerNode int
}

// Network is the cluster's part of a VM's network.
type Network struct {
	// DefaultBinding is bridge or masquerade: the binding of the interface that a VM gets when it names none.
	DefaultBinding string
	// PermitBridgeOnPodNetwork allows the bridge binding on the pod network.
	PermitBridgeOnPodNetwork bool
	BindingPlugins           map[string]v1.InterfaceBindingPlugin
}

// Launcher is how launcher pods are made.
type Launcher struct {
	NodeSelector map[string]string
	// ImagePullPolicy is for launcher pods; empty leaves it to the kubelet.
	ImagePullPolicy corev1.PullPolicy
	RuntimeClass    string
	SELinuxType     string
	// Seccomp is nil when RuntimeDefault applies.
	Seccomp *v1.CustomProfile
	// Support holds resources of supporting containers by type, where the CR sets them.
	Support map[v1.SupportContainerType]corev1.ResourceRequirements
	// SerialConsoleLog tells whether guests' serial output is logged unless a VM says otherwise.
	SerialConsoleLog bool
	// FreePageReporting tells whether balloons report free pages to the node.
	FreePageReporting bool
	// VGAForEFI gives EFI guests on amd64 a VGA display (annotation kubevirt.io/vga-display-efi-x86 of the CR).
	VGAForEFI bool
	// BalloonStatsSeconds is the period of balloon statistics; 0 turns them off.
	BalloonStatsSeconds uint32
}

// LiveUpdate bounds what can be plugged into a running VM.
type LiveUpdate struct {
	MaxHotplugRatio uint32
	// MaxCPUSockets and MaxGuest are defaults for VMs that set none; nil derives them with MaxHotplugRatio.
	MaxCPUSockets *uint32
	MaxGuest      *resource.Quantity
}

// Storage is the cluster's part of a VM's disks.
type Storage struct {
	// LessSpacePercent is how much smaller than asked for a claim may be.
	LessSpacePercent int
	// ReserveBytes stays free on a claim whose disk image we create.
	ReserveBytes uint64
	// DiskMemoryLimit bounds the memory that checking a disk image may take.
	DiskMemoryLimit resource.Quantity
	// VMStateStorageClass is for claims that keep TPM and firmware state; empty means the cluster's default class.
	VMStateStorageClass string
}

// Effective completes a KubeVirt with the defaults. A nil kv gives the defaults alone.
func Effective(kv *v1.KubeVirt) Config {
	if kv == nil {
		kv = &v1.KubeVirt{}
	}
	spec := &kv.Spec.Configuration
	dev := spec.DeveloperConfiguration
	if dev == nil {
		dev = &v1.DeveloperConfiguration{}
	}
	c := Config{
		UseEmulation:         dev.UseEmulation,
		DefaultArchitecture:  defaultArchitecture(kv),
		Machines:             machines(spec),
		Compute:              compute(spec, dev),
		Network:              network(spec.NetworkConfiguration),
		Migration:            migration(spec.MigrationConfiguration),
		Launcher:             launcher(spec, dev),
		Live:                 liveUpdate(spec.LiveUpdateConfiguration),
		Storage:              storage(spec, dev),
		EvictionStrategy:     v1.EvictionStrategyNone,
		RolloutStrategy:      v1.VMRolloutStrategyLiveUpdate,
		InstancetypePolicy:   v1.Reference,
		PermittedHostDevices: spec.PermittedHostDevices,
		MediatedDevices:      spec.MediatedDevicesConfiguration,
		KSM:                  spec.KSMConfiguration,
		LogVerbosity:         verbosity(dev.LogVerbosity),
		TLS:                  spec.TLSConfiguration,
		GuestAgentVersions:   []string{"2.*", "3.*", "4.*", "5.*"},
		SMBIOS:               smbios(spec.SMBIOSConfig),
		RegistryHint:         kv.Spec.ImageRegistry,
		TagHint:              kv.Spec.ImageTag,
		enabled:              set(dev.FeatureGates),
		disabled:             set(dev.DisabledFeatureGates),
	}
	if spec.EvictionStrategy != nil {
		c.EvictionStrategy = *spec.EvictionStrategy
	}
	if spec.VMRolloutStrategy != nil && *spec.VMRolloutStrategy != "" {
		c.RolloutStrategy = *spec.VMRolloutStrategy
	}
	_, c.Launcher.VGAForEFI = kv.Annotations[v1.VGADisplayForEFIGuestsX86Annotation]
	if i := spec.Instancetype; i != nil && i.ReferencePolicy != nil && *i.ReferencePolicy != "" {
		c.InstancetypePolicy = *i.ReferencePolicy
	}
	if len(spec.SupportedGuestAgentVersions) > 0 {
		c.GuestAgentVersions = spec.SupportedGuestAgentVersions
	}
	return c
}

func defaultArchitecture(kv *v1.KubeVirt) string {
	if a := kv.Spec.Configuration.ArchitectureConfiguration; a != nil && a.DefaultArchitecture != "" {
		return a.DefaultArchitecture
	}
	if kv.Status.DefaultArchitecture != "" {
		return kv.Status.DefaultArchitecture
	}
	return runtime.GOARCH
}

func verbosity(set *v1.LogVerbosity) v1.LogVerbosity {
	v := v1.LogVerbosity{}
	if set != nil {
		v = *set
	}
	for _, level := range []*uint{
		&v.VirtAPI, &v.VirtController, &v.VirtHandler, &v.VirtLauncher, &v.VirtOperator,
		&v.VirtSynchronizationController,
	} {
		if *level == 0 {
			*level = 2
		}
	}
	return v
}

func smbios(set *v1.SMBiosConfiguration) v1.SMBiosConfiguration {
	if set != nil {
		return *set
	}
	return v1.SMBiosConfiguration{Manufacturer: "KubeVirt", Product: "None", Family: "KubeVirt"}
}

func set(names []string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}
