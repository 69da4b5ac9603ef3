package names

// Reasons of events on DataVolumes and claims.
const (
	EventErrClaimNotValid   = "ErrClaimNotValid"
	EventErrExceededQuota   = "ErrExceededQuota"
	EventErrResourceExists  = "ErrResourceExists"
	EventErrStartingPod     = "ErrStartingPod"
	EventErrClaimLost       = "ErrClaimLost"
	EventErrUnableToClone   = "ErrUnableToClone"
	EventErrImportFailed    = "ErrImportFailed"
	EventImportScheduled    = "ImportScheduled"
	EventImportInProgress   = "ImportInProgress"
	EventImportSucceeded    = "ImportSucceeded"
	EventImportFailed       = "ImportFailed"
	EventImportPaused       = "ImportPaused"
	EventImportTargetInUse  = "ImportTargetInUse"
	EventUploadScheduled    = "UploadScheduled"
	EventUploadReady        = "UploadReady"
	EventUploadSucceeded    = "UploadSucceeded"
	EventUploadFailed       = "UploadFailed"
	EventUploadTargetInUse  = "UploadTargetInUse"
	EventCloneScheduled     = "CloneScheduled"
	EventCloneInProgress    = "CloneInProgress"
	EventCloneSucceeded     = "CloneSucceeded"
	EventCloneFailed        = "CloneFailed"
	EventCloneSourceInUse   = "CloneSourceInUse"
	EventNotAuthorized      = "CloneWithoutSource"
	EventNoSnapshotClass    = "NoVolumeSnapshotClass"
	EventVolumeModes        = "IncompatibleVolumeModes"
	EventNoExpansion        = "NoVolumeExpansion"
	EventNoProvisionerMatch = "NoProvisionerMatch"
	EventProvisioners       = "IncompatibleProvisioners"
	EventClaimMisbound      = "ClaimMisbound"
	EventCreatingScratch    = "CreatingScratchSpace"
)

// Reasons of conditions of DataVolumes.
const (
	ReasonBound           = "Bound"
	ReasonPending         = "Pending"
	ReasonClaimLost       = "ClaimLost"
	ReasonNotFound        = "NotFound"
	ReasonTransferRunning = "TransferRunning"
	ReasonUnschedulable   = "Unschedulable"
	ReasonCompleted       = "Completed"
	ReasonError           = "Error"
	ReasonOOMKilled       = "OOMKilled"
)
