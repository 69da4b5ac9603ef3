package names

import "strings"

// Labels.
const (
	LabelApp      = "app"
	LabelAppValue = "containerized-data-importer"
	// LabelComponent says what a pod, claim or service of CDI is; the values follow.
	LabelComponent         = "cdi.kubevirt.io"
	ComponentImporter      = "importer"
	ComponentUploadServer  = "cdi-upload-server"
	ComponentCloneSource   = "cdi-clone-source"
	ComponentSmartClone    = "cdi-smart-clone"
	ComponentHostClone     = "host-assisted-cloning"
	ComponentOperator      = "cdi-operator"
	ComponentController    = "cdi-deployment"
	ComponentAPIServer     = "cdi-apiserver"
	ComponentUploadProxy   = "cdi-uploadproxy"
	ComponentSizeDetection = "size-detection"

	LabelPrometheus      = "prometheus.cdi.kubevirt.io"
	LabelPrometheusValue = "true"
	// LabelUploadService is the upload server's Service selector; the value is the Service's name.
	LabelUploadService = "service"
	// LabelUploadTarget has the UID of the claim an upload server writes to.
	LabelUploadTarget = Prefix + "uploadTarget"

	LabelImportCron        = Prefix + "dataImportCron"
	LabelImportCronNs      = Prefix + "dataImportCronNs"
	LabelImportCronPoller  = Prefix + "dataImportCronPoller"
	LabelImportCronCleanup = Prefix + "dataImportCron.cleanup"

	LabelApplyStorageProfile = Prefix + "applyStorageProfile"
	LabelOwnedByUID          = Prefix + "OwnedByUID"

	LabelFillingUpAlert      = "alerts.k8s.io/KubePersistentVolumeFillingUp"
	LabelFillingUpAlertValue = "disabled"

	LabelPartOf    = "app.kubernetes.io/part-of"
	LabelVersion   = "app.kubernetes.io/version"
	LabelManagedBy = "app.kubernetes.io/managed-by"
	LabelComp      = "app.kubernetes.io/component"

	LabelDefaultInstancetype     = "instancetype.kubevirt.io/default-instancetype"
	LabelDefaultInstancetypeKind = "instancetype.kubevirt.io/default-instancetype-kind"
	LabelDefaultPreference       = "instancetype.kubevirt.io/default-preference"
	LabelDefaultPreferenceKind   = "instancetype.kubevirt.io/default-preference-kind"
	LabelDynamicCredentials      = "kubevirt.io/dynamic-credentials-support"
)

// Inherited tells whether a label goes on from a disk to what is made of it or leads to it. As CDI has it, those of kubevirt.io and of
// every domain below do; only what cdi.kubevirt.io says, for one who manages an object, stays where it is.
func Inherited(label string) bool {
	domain, _, _ := strings.Cut(label, "/")
	return domain != LabelComponent && (domain == "kubevirt.io" || strings.HasSuffix(domain, ".kubevirt.io"))
}
