package names

// Prefix of the annotations and labels.
const Prefix = "cdi.kubevirt.io/"

// Annotations about the pod that works on a claim. The controller writes them on the claim.
const (
	AnnCreatedBy              = Prefix + "storage.createdByController"
	AnnPodPhase               = Prefix + "storage.pod.phase"
	AnnPodReady               = Prefix + "storage.pod.ready"
	AnnPodRestarts            = Prefix + "storage.pod.restarts"
	AnnPodSchedulable         = Prefix + "storage.pod.schedulable"
	AnnPriorityClassName      = Prefix + "storage.pod.priorityclassname"
	AnnPodServiceAccount      = Prefix + "storage.pod.serviceAccountName"
	AnnPodRetain              = Prefix + "storage.pod.retainAfterCompletion"
	AnnVddkVersion            = Prefix + "storage.pod.vddk.version"
	AnnVddkHost               = Prefix + "storage.pod.vddk.host"
	AnnVddkInitImageURL       = Prefix + "storage.pod.vddk.initimageurl"
	AnnVddkExtraArgs          = Prefix + "storage.pod.vddk.extraargs"
	AnnImportPod              = Prefix + "storage.import.importPodName"
	AnnUploadPod              = Prefix + "storage.uploadPodName"
	AnnCloneSourcePod         = Prefix + "storage.sourceClonePodName"
	AnnRunningCondition       = Prefix + "storage.condition.running"
	AnnBoundCondition         = Prefix + "storage.condition.bound"
	AnnSourceRunningCondition = Prefix + "storage.condition.source.running"
	// SuffixMessage and SuffixReason follow the three conditions above.
	SuffixMessage = ".message"
	SuffixReason  = ".reason"
)

// Annotations that ask for an import.
const (
	AnnSource                = Prefix + "storage.import.source"
	AnnEndpoint              = Prefix + "storage.import.endpoint"
	AnnSecret                = Prefix + "storage.import.secretName"
	AnnCertConfigMap         = Prefix + "storage.import.certConfigMap"
	AnnRegistryImportMethod  = Prefix + "storage.import.registryImportMethod"
	AnnRegistryImageStream   = Prefix + "storage.import.registryImageStream"
	AnnRegistryArchitecture  = Prefix + "storage.import.registryImageArchitecture"
	AnnDiskID                = Prefix + "storage.import.diskId"
	AnnUUID                  = Prefix + "storage.import.uuid"
	AnnInsecureSkipVerify    = Prefix + "storage.import.insecureSkipVerify"
	AnnBackingFile           = Prefix + "storage.import.backingFile"
	AnnThumbprint            = Prefix + "storage.import.vddk.thumbprint"
	AnnExtraHeaders          = Prefix + "storage.import.extraHeaders"       // .N
	AnnSecretExtraHeaders    = Prefix + "storage.import.secretExtraHeaders" // .N
	AnnChecksum              = Prefix + "storage.import.checksum"
	AnnRequiresScratch       = Prefix + "storage.import.requiresScratch"
	AnnRequiresDirectIO      = Prefix + "storage.import.requiresDirectIo"
	AnnImportFatalError      = Prefix + "storage.import.fatalError"
	AnnSourceVolumeMode      = Prefix + "storage.import.sourceVolumeMode"
	AnnAdvisedRestoreSize    = Prefix + "storage.import.advisedRestoreSize"
	AnnSourceDesiredDigest   = Prefix + "storage.import.sourceDesiredDigest"
	AnnImageStreamDockerRef  = Prefix + "storage.import.imageStreamDockerRef"
	AnnNextCronTime          = Prefix + "storage.import.nextCronTime"
	AnnLastCronTime          = Prefix + "storage.import.lastCronTime"
	AnnLastUseTime           = Prefix + "storage.import.lastUseTime"
	AnnStorageClass          = Prefix + "storage.import.storageClass"
	AnnContentType           = Prefix + "storage.contentType"
	AnnPreallocationRequest  = Prefix + "storage.preallocation.requested"
	AnnPreallocationApplied  = Prefix + "storage.preallocation"
	AnnCheckpointPrevious    = Prefix + "storage.checkpoint.previous"
	AnnCheckpointCurrent     = Prefix + "storage.checkpoint.current"
	AnnCheckpointFinal       = Prefix + "storage.checkpoint.final"
	AnnCheckpointsCopied     = Prefix + "storage.checkpoint.copied" // .NAME
	AnnCheckpointPodID       = Prefix + "storage.checkpoint.pod.id"
	AnnMultiStageImportDone  = Prefix + "storage.checkpoint.done"
	AnnImmediateBinding      = Prefix + "storage.bind.immediate.requested"
	AnnSelectedNode          = "volume.kubernetes.io/selected-node"
	AnnDeleteAfterCompletion = Prefix + "storage.deleteAfterCompletion"
)

// Annotations about uploads and clones.
const (
	AnnUploadRequest      = Prefix + "storage.upload.target"
	AnnUploadClientName   = Prefix + "uploadClientName"
	AnnCloneToken         = Prefix + "storage.clone.token"
	AnnExtendedCloneToken = Prefix + "storage.extended.clone.token"
	AnnPermissiveClone    = Prefix + "permissiveClone"
	AnnOwnerUID           = Prefix + "ownerUID"
	AnnCloneType          = Prefix + "cloneType"
	AnnClonePhase         = Prefix + "clonePhase"
	AnnCloneError         = Prefix + "cloneError"
	AnnCloneFallback      = Prefix + "cloneFallbackReason"
	AnnDataSourceNs       = Prefix + "dataSourceNamespace"
	AnnCloneRequest       = "k8s.io/CloneRequest" // value: namespace/name
	AnnCloneOf            = "k8s.io/CloneOf"
)

// Annotations about who fills a claim.
const (
	AnnPrePopulated       = Prefix + "storage.prePopulated"
	AnnPopulatedFor       = Prefix + "storage.populatedFor"
	AnnCheckStaticVolume  = Prefix + "storage.checkStaticVolume"
	AnnVolumeList         = Prefix + "storage.persistentVolumeList"
	AnnExternalPopulation = Prefix + "externalPopulation"
	AnnAllowClaimAdoption = Prefix + "allowClaimAdoption"
	AnnCreatedForVolume   = Prefix + "createdForDataVolume"
	AnnUsePopulator       = Prefix + "storage.usePopulator"
	AnnPopulatorKind      = Prefix + "storage.populator.kind"
	AnnPopulatorProgress  = Prefix + "storage.populator.progress"
	AnnPVCPrime           = Prefix + "storage.populator.pvcPrime"
	AnnEventSource        = Prefix + "events.source" // value: namespace/name
	AnnEventSourceKind    = Prefix + "events.source.kind"
)

// Annotations of storage classes and profiles.
const (
	AnnDefaultVirtClass           = "storageclass.kubevirt.io/is-default-virt-class"
	AnnDefaultClass               = "storageclass.kubernetes.io/is-default-class"
	AnnDefaultSnapshotClass       = "snapshot.storage.kubernetes.io/is-default-class"
	AnnCloneStrategy              = Prefix + "clone-strategy"
	AnnMinimumSupportedPVCSize    = Prefix + "minimumSupportedPvcSize"
	AnnUseRWOForDataImportCron    = Prefix + "useReadWriteOnceForDataImportCron"
	AnnSnapshotClassForImportCron = Prefix + "snapshotClassForDataImportCron"
	AnnConfigAuthority            = Prefix + "configAuthority"
)

// Annotations of our own: other programs may read them, none needs to.
const (
	// AnnContentDigest is sha256:HEX of the whole source stream.
	AnnContentDigest = "virtctl.io/content-digest"
	// AnnContentLength is the length of the source stream in bytes.
	AnnContentLength = "virtctl.io/content-length"
)

// Annotations of pods that other programs obey. The first two of each pair are copied from DataVolume to worker pod.
const (
	AnnPodNetwork           = "k8s.v1.cni.cncf.io/networks"
	AnnMultusDefaultNetwork = "v1.multus-cni.io/default-network"
	AnnIstioInject          = "sidecar.istio.io/inject" // default "false"
	AnnLinkerdInject        = "linkerd.io/inject"       // default "disabled"
	AnnOVNOpenPorts         = "k8s.ovn.org/open-default-ports"
	AnnBackupExclude        = "velero.io/exclude-from-backup"
)

// Finalizers.
const (
	FinalizerCloneSource   = Prefix + "cloneSource"
	FinalizerDataVolume    = Prefix + "dataVolumeFinalizer"
	FinalizerClonePop      = Prefix + "clonePopulator"
	FinalizerHostClone     = Prefix + "hostClonePopulator"
	FinalizerImportCron    = Prefix + "dataImportCronFinalizer"
	FinalizerTransfer      = Prefix + "objectTransfer"
	FinalizerImageStream   = Prefix + "importImageStream"
	FinalizerOperator      = "operator.cdi.kubevirt.io"
	AnnHostAssistedSource  = Prefix + "hostAssistedSourcePodCloneSource"
	LabelCloneSourceUnique = Prefix + "storage.clone.cloneUniqeId" // the contract's spelling
)
