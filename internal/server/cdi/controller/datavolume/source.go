package datavolume

import (
	"fmt"
	"strconv"
	"strings"

	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"virtctl/internal/cdi/names"
)

// SourceAnnotations are what a claim must say so that it is filled from a source. Clones are not among them.
func SourceAnnotations(s *cdi.DataVolumeSource) map[string]string {
	a := annotations{}
	switch {
	case s == nil:
	case s.HTTP != nil:
		a.http(s.HTTP)
	case s.S3 != nil:
		a.source(names.SourceS3, s.S3.URL, s.S3.SecretRef, s.S3.CertConfigMap)
	case s.GCS != nil:
		a.source(names.SourceGCS, s.GCS.URL, s.GCS.SecretRef, "")
	case s.Registry != nil:
		a.registry(s.Registry)
	case s.Blank != nil:
		a[names.AnnSource] = names.SourceNone
	case s.Upload != nil:
		a[names.AnnUploadRequest] = ""
	case s.Imageio != nil:
		a.source(names.SourceImageio, s.Imageio.URL, s.Imageio.SecretRef, s.Imageio.CertConfigMap)
		a.set(names.AnnDiskID, s.Imageio.DiskID)
		a.flag(names.AnnInsecureSkipVerify, s.Imageio.InsecureSkipVerify)
	case s.VDDK != nil:
		a.source(names.SourceVDDK, s.VDDK.URL, s.VDDK.SecretRef, s.VDDK.CertConfigMap)
		a.set(names.AnnUUID, s.VDDK.UUID)
		a.set(names.AnnBackingFile, s.VDDK.BackingFile)
		a.set(names.AnnThumbprint, s.VDDK.Thumbprint)
		a.set(names.AnnVddkInitImageURL, s.VDDK.InitImageURL)
		a.set(names.AnnVddkExtraArgs, s.VDDK.ExtraArgs)
	}
	return a
}

type annotations map[string]string

func (a annotations) set(key, value string) {
	if value != "" {
		a[key] = value
	}
}

func (a annotations) flag(key string, value *bool) {
	if value != nil {
		a[key] = strconv.FormatBool(*value)
	}
}

func (a annotations) source(kind, endpoint, secret, bundle string) {
	a[names.AnnSource] = kind
	a.set(names.AnnEndpoint, endpoint)
	a.set(names.AnnSecret, secret)
	a.set(names.AnnCertConfigMap, bundle)
}

func (a annotations) http(h *cdi.DataVolumeSourceHTTP) {
	a.source(names.SourceHTTP, h.URL, h.SecretRef, h.CertConfigMap)
	a.set(names.AnnChecksum, h.Checksum)
	a.flag(names.AnnInsecureSkipVerify, h.InsecureSkipVerify)
	for i, header := range h.ExtraHeaders {
		a[fmt.Sprintf("%s.%d", names.AnnExtraHeaders, i)] = header
	}
	for i, secret := range h.SecretExtraHeaders {
		a[fmt.Sprintf("%s.%d", names.AnnSecretExtraHeaders, i)] = secret
	}
}

func (a annotations) registry(r *cdi.DataVolumeSourceRegistry) {
	a[names.AnnSource] = names.SourceRegistry
	if r.PullMethod != nil {
		a.set(names.AnnRegistryImportMethod, string(*r.PullMethod))
	}
	switch {
	case r.URL != nil:
		a.set(names.AnnEndpoint, *r.URL)
	case r.ImageStream != nil:
		a.set(names.AnnEndpoint, *r.ImageStream)
		a[names.AnnRegistryImageStream] = "true"
	}
	if r.SecretRef != nil {
		a.set(names.AnnSecret, *r.SecretRef)
	}
	if r.CertConfigMap != nil {
		a.set(names.AnnCertConfigMap, *r.CertConfigMap)
	}
	if r.Platform != nil {
		a.set(names.AnnRegistryArchitecture, r.Platform.Architecture)
	}
}

// kind is the part of a DataVolume's life that its phases and events are named for.
type kind struct {
	name string
	// scheduled and running are the phases while the worker waits and works.
	scheduled, running cdi.DataVolumePhase
	// messages for events; %s is the claim.
	onScheduled, onRunning, onFailed, onSucceeded string
	// readyCounts tells that the worker must be ready and not just run.
	readyCounts bool
}

func importKind() kind {
	return kind{
		name: "Import", scheduled: cdi.ImportScheduled, running: cdi.ImportInProgress,
		onScheduled: "Import into %s scheduled", onRunning: "Import into %s in progress",
		onFailed: "Failed to import into PVC %s", onSucceeded: "Successfully imported into PVC %s",
	}
}

func uploadKind() kind {
	return kind{
		name: "Upload", scheduled: cdi.UploadScheduled, running: cdi.UploadReady, readyCounts: true,
		onScheduled: "Upload into %s scheduled", onRunning: "Upload into %s ready",
		onFailed: "Upload into %s failed", onSucceeded: "Successfully uploaded into %s",
	}
}

func cloneKind(from string) kind {
	from = strings.ReplaceAll(from, "%", "%%")
	k := kind{name: "Clone", scheduled: cdi.CloneScheduled, running: cdi.CloneInProgress}
	k.onScheduled = "Cloning from " + from + " into %s scheduled"
	k.onRunning = "Cloning from " + from + " into %s in progress"
	k.onFailed = "Cloning from " + from + " into %s failed"
	k.onSucceeded = "Successfully cloned from " + from + " into %s"
	return k
}
