package client

import (
	"context"
	"errors"
	"fmt"

	storagev1 "k8s.io/api/storage/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	uploadv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/upload/v1beta1"
)

// Names of the API groups of disks.
const (
	CDIGroup    = "cdi.kubevirt.io"
	UploadGroup = "upload.cdi.kubevirt.io"
)

func cdiKind(kind, plural, singular string, cluster bool) Kind {
	return Kind{Group: CDIGroup, Version: "v1beta1", Kind: kind, Plural: plural, Singular: singular, Cluster: cluster}
}

// DataVolume is the kind of a disk that is filled from somewhere.
func DataVolume() Kind { return cdiKind("DataVolume", "datavolumes", "datavolume", false) }

// DataSource is the kind of a name for a disk that others are cloned from.
func DataSource() Kind { return cdiKind("DataSource", "datasources", "datasource", false) }

// DataImportCron is the kind of a schedule that keeps a DataSource fresh.
func DataImportCron() Kind {
	return cdiKind("DataImportCron", "dataimportcrons", "dataimportcron", false)
}

// StorageProfile is the kind that says what a storage class can do.
func StorageProfile() Kind {
	return cdiKind("StorageProfile", "storageprofiles", "storageprofile", true)
}

// CDIConfig is the kind of the disk service's effective configuration.
func CDIConfig() Kind { return cdiKind("CDIConfig", "cdiconfigs", "cdiconfig", true) }

// StorageClass is the kind of a storage class.
func StorageClass() Kind {
	return Kind{Group: "storage.k8s.io", Version: "v1", Kind: "StorageClass", Plural: "storageclasses", Singular: "storageclass", Cluster: true}
}

// DataVolumes gives the data volumes of a namespace.
func (c *Client) DataVolumes(namespace string) Resource[cdiv1.DataVolume] {
	return Of[cdiv1.DataVolume](c, DataVolume(), namespace)
}

// DataSources gives the data sources of a namespace.
func (c *Client) DataSources(namespace string) Resource[cdiv1.DataSource] {
	return Of[cdiv1.DataSource](c, DataSource(), namespace)
}

// StorageProfiles gives what the storage classes can do.
func (c *Client) StorageProfiles() Resource[cdiv1.StorageProfile] {
	return Of[cdiv1.StorageProfile](c, StorageProfile(), "")
}

// CDIConfigs gives the disk service's configuration, an object called "config".
func (c *Client) CDIConfigs() Resource[cdiv1.CDIConfig] {
	return Of[cdiv1.CDIConfig](c, CDIConfig(), "")
}

// StorageClasses gives the cluster's storage classes.
func (c *Client) StorageClasses() Resource[storagev1.StorageClass] {
	return Of[storagev1.StorageClass](c, StorageClass(), "")
}

// UploadToken asks for the right to fill a claim through the upload proxy. It is good for five minutes.
func (c *Client) UploadToken(ctx context.Context, namespace, claim string) (string, error) {
	kind := Kind{
		Group: UploadGroup, Version: "v1beta1", Kind: "UploadTokenRequest", Plural: "uploadtokenrequests", Singular: "uploadtokenrequest",
	}
	request := &uploadv1.UploadTokenRequest{Spec: uploadv1.UploadTokenRequestSpec{PvcName: claim}}
	request.Namespace, request.GenerateName = namespace, "token-for-virtctl-"
	answer, err := Of[uploadv1.UploadTokenRequest](c, kind, namespace).Create(ctx, request, false)
	if err != nil {
		return "", fmt.Errorf("ask for an upload token: %w", err)
	}
	if answer.Status.Token == "" {
		return "", errors.New("the server gave no upload token: see \"virtctl status\"")
	}
	return answer.Status.Token, nil
}

// UploadPath is where the API server takes a claim's content without a proxy.
func UploadPath(namespace, claim string) string {
	return "/apis/" + UploadGroup + "/v1beta1/namespaces/" + namespace + "/uploads/" + claim + "/proxy"
}
