package clusterconfig

// Feature gates that code asks for. Names are the public contract.
const (
	GateSnapshot                    = "Snapshot"
	GateImageVolume                 = "ImageVolume"
	GateDeclarativeHotplugVolumes   = "DeclarativeHotplugVolumes"
	GateHotplugVolumes              = "HotplugVolumes"
	GateDecentralizedLiveMigration  = "DecentralizedLiveMigration"
	GateNodeRestriction             = "NodeRestriction"
	GateCPUManager                  = "CPUManager"
	GateHostDisk                    = "HostDisk"
	GateHostDevices                 = "HostDevices"
	GateSidecar                     = "Sidecar"
	GateDownwardMetrics             = "DownwardMetrics"
	GateVSOCK                       = "VSOCK"
	GateHypervStrictCheck           = "HypervStrictCheck"
	GateExperimentalIgnition        = "ExperimentalIgnitionSupport"
	GateWorkloadEncryptionSEV       = "WorkloadEncryptionSEV"
	GateWorkloadEncryptionTDX       = "WorkloadEncryptionTDX"
	GateEnableVirtioFsStorage       = "EnableVirtioFsStorageVolumes"
	GateObjectGraph                 = "ObjectGraph"
	GateIncrementalBackup           = "IncrementalBackup"
	GateContainerPathVolumes        = "ContainerPathVolumes"
	GateRebootPolicy                = "RebootPolicy"
	GateExternalNetResource         = "ExternalNetResourceInjection"
	GateOptOutRoleAggregation       = "OptOutRoleAggregation"
	GateGPUsWithDRA                 = "GPUsWithDRA"
	GateHostDevicesWithDRA          = "HostDevicesWithDRA"
	GateNetworkDevicesWithDRA       = "NetworkDevicesWithDRA"
	GateUtilityVolumes              = "UtilityVolumes"
	GatePasstBinding                = "PasstBinding"
	GateTemplate                    = "Template"
	GateOCIExport                   = "OCIExport"
	GateVGPULiveMigration           = "VGPULiveMigration"
	GateCrossArchitecture           = "CrossArchitectureVirtualization"
	GateKubevirtSeccompProfile      = "KubevirtSeccompProfile"
	GatePodSecondaryNamingUpgrade   = "PodSecondaryInterfaceNamingUpgrade"
	GateDisableMDEVConfiguration    = "DisableMDEVConfiguration"
	GateMultiArchitecture           = "MultiArchitecture"
	GatePCINUMAAwareTopology        = "PCINUMAAwareTopology"
	GateReservedOverheadMemlock     = "ReservedOverheadMemlock"
	GateAlignCPUs                   = "AlignCPUs"
	GateRoot                        = "Root"
	GateMigrationStallDetection     = "MigrationStallDetection"
	GateMigrationDowntimeTuning     = "MigrationDowntimeTuning"
	GateFirmwareAutoSelection       = "FirmwareAutoSelection"
	GatePortRangesSpec              = "PortRangesSpec"
	GateVMStatsCollector            = "VMStatsCollector"
	GatePlugins                     = "Plugins"
	GateIOMMUFD                     = "IOMMUFD"
	GateGraceIOVirtualization       = "GraceIOVirtualization"
	GateConfigurableHypervisor      = "ConfigurableHypervisor"
	GateDockerSELinuxMCSWorkaround  = "DockerSELinuxMCSWorkaround"
	GateExperimentalVirtiofsSupport = "ExperimentalVirtiofsSupport"
)

// Stage is how ripe a feature is.
type Stage string

// The stages. A gate without an entry is treated as Alpha: off unless listed.
const (
	// GA features are always on; listing them changes nothing.
	GA Stage = "GA"
	// Beta features are on unless disabledFeatureGates lists them.
	Beta Stage = "Beta"
	// Alpha and Deprecated features are off unless featureGates lists them.
	Alpha      Stage = "Alpha"
	Deprecated Stage = "Deprecated"
	// Discontinued features are gone; listing them changes nothing.
	Discontinued Stage = "Discontinued"
)

// StageOf tells how ripe the feature behind a gate is. The stages are those of KubeVirt v1.9.
func StageOf(gate string) Stage {
	switch gate {
	case GateImageVolume, GateSnapshot, GateWorkloadEncryptionSEV, GateKubevirtSeccompProfile, GateNodeRestriction,
		GateGPUsWithDRA, GateHostDevicesWithDRA, GateDecentralizedLiveMigration, GateDeclarativeHotplugVolumes,
		GatePasstBinding, GatePodSecondaryNamingUpgrade, GateExternalNetResource, GateRebootPolicy, GateTemplate,
		GateOptOutRoleAggregation:
		return Beta
	case GateHotplugVolumes, GateMultiArchitecture, GateDisableMDEVConfiguration, GateDockerSELinuxMCSWorkaround:
		return Deprecated
	case "Passt", "Macvtap", GateExperimentalVirtiofsSupport, "PasstIPStackMigration":
		return Discontinued
	case "LiveMigration", "SRIOVLiveMigration", "NonRoot", "PSA", "CPUNodeDiscovery", "NUMA", "GPU", "VMExport",
		"HotplugNICs", "VMPersistentState", "VMLiveUpdateFeatures", "CommonInstancetypesDeploymentGate",
		"CommonInstancetypes", "AutoResourceLimitsGate", "NetworkBindingPlugins", "BochsDisplayForEFIGuests",
		"DynamicPodInterfaceNaming", "VolumesUpdateStrategy", "VolumeMigration", "PersistentReservation", "KubevirtSeccomp",
		"InstancetypeReferencePolicy", "ClusterProfiler", "DataVolumes", "MigrationPriorityQueue", "VideoConfig",
		"PanicDevices", "NodeMediatedDeviceTypes":
		return GA
	default:
		return Alpha
	}
}

// Gate tells whether a feature is on.
func (c Config) Gate(name string) bool {
	switch StageOf(name) {
	case GA:
		return true
	case Beta:
		return !c.disabled[name]
	case Discontinued:
		return false
	default:
		return c.enabled[name] && !c.disabled[name]
	}
}
