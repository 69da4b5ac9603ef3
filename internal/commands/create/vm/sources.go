package vm

import (
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"virtctl/internal/commands/create/params"
)

// needAll gives the values of parameters that must all be there.
func needAll(v params.Values, keys ...string) (map[string]string, error) {
	found := make(map[string]string, len(keys))
	for _, key := range keys {
		value, err := v.Need(key)
		if err != nil {
			return nil, err
		}
		found[key] = value
	}
	return found, nil
}

func fillBlank(_ params.Values, spec *cdiv1.DataVolumeSpec) error {
	spec.Source = &cdiv1.DataVolumeSource{Blank: &cdiv1.DataVolumeBlankImage{}}
	return nil
}

func fillGCS(v params.Values, spec *cdiv1.DataVolumeSpec) error {
	need, err := needAll(v, "url")
	spec.Source = &cdiv1.DataVolumeSource{GCS: &cdiv1.DataVolumeSourceGCS{URL: need["url"], SecretRef: v.Get("secretref")}}
	return err
}

func fillHTTP(v params.Values, spec *cdiv1.DataVolumeSpec) error {
	need, err := needAll(v, "url")
	spec.Source = &cdiv1.DataVolumeSource{HTTP: &cdiv1.DataVolumeSourceHTTP{
		URL: need["url"], SecretRef: v.Get("secretref"), CertConfigMap: v.Get("certconfigmap"),
		ExtraHeaders: v.List("extraheaders"), SecretExtraHeaders: v.List("secretextraheaders"),
	}}
	return err
}

func fillImageIO(v params.Values, spec *cdiv1.DataVolumeSpec) error {
	need, err := needAll(v, "url", "diskid")
	spec.Source = &cdiv1.DataVolumeSource{Imageio: &cdiv1.DataVolumeSourceImageIO{
		URL: need["url"], DiskID: need["diskid"], SecretRef: v.Get("secretref"), CertConfigMap: v.Get("certconfigmap"),
	}}
	return err
}

func fillRegistry(v params.Values, spec *cdiv1.DataVolumeSpec) error {
	registry := &cdiv1.DataVolumeSourceRegistry{
		URL: v.Pointer("url"), ImageStream: v.Pointer("imagestream"),
		CertConfigMap: v.Pointer("certconfigmap"), SecretRef: v.Pointer("secretref"),
	}
	if (registry.URL == nil) == (registry.ImageStream == nil) {
		return v.Errorf("exactly one of url or imagestream must be specified")
	}
	if method := v.Pointer("pullmethod"); method != nil {
		pull := cdiv1.RegistryPullMethod(*method)
		if pull != cdiv1.RegistryPullPod && pull != cdiv1.RegistryPullNode {
			return v.Errorf("pullmethod must be pod or node")
		}
		registry.PullMethod = &pull
	}
	spec.Source = &cdiv1.DataVolumeSource{Registry: registry}
	return nil
}

func fillS3(v params.Values, spec *cdiv1.DataVolumeSpec) error {
	need, err := needAll(v, "url")
	spec.Source = &cdiv1.DataVolumeSource{S3: &cdiv1.DataVolumeSourceS3{
		URL: need["url"], SecretRef: v.Get("secretref"), CertConfigMap: v.Get("certconfigmap"),
	}}
	return err
}

func fillVDDK(v params.Values, spec *cdiv1.DataVolumeSpec) error {
	need, err := needAll(v, "backingfile", "secretref", "thumbprint", "url", "uuid")
	spec.Source = &cdiv1.DataVolumeSource{VDDK: &cdiv1.DataVolumeSourceVDDK{
		URL: need["url"], UUID: need["uuid"], Thumbprint: need["thumbprint"], SecretRef: need["secretref"],
		BackingFile: need["backingfile"], InitImageURL: v.Get("initimageurl"),
	}}
	return err
}

// source reads src:NAMESPACE/NAME; the namespace must be there when needed.
func source(v params.Values, kind string, needed bool) (namespace, name string, err error) {
	src, err := v.Need("src")
	if err != nil {
		return "", "", err
	}
	namespace, name, err = params.SplitName(src)
	if err != nil {
		return "", "", v.Errorf("src invalid: %w", err)
	}
	if needed && namespace == "" {
		return "", "", v.Errorf("namespace of %s '%s' must be specified", kind, name)
	}
	return namespace, name, nil
}

func fillClaim(v params.Values, spec *cdiv1.DataVolumeSpec) error {
	namespace, name, err := source(v, "pvc", true)
	spec.Source = &cdiv1.DataVolumeSource{PVC: &cdiv1.DataVolumeSourcePVC{Namespace: namespace, Name: name}}
	return err
}

func fillSnapshot(v params.Values, spec *cdiv1.DataVolumeSpec) error {
	namespace, name, err := source(v, "snapshot", true)
	spec.Source = &cdiv1.DataVolumeSource{Snapshot: &cdiv1.DataVolumeSourceSnapshot{Namespace: namespace, Name: name}}
	return err
}

func fillDataSource(v params.Values, spec *cdiv1.DataVolumeSpec) error {
	namespace, name, err := source(v, "ds", false)
	spec.SourceRef = &cdiv1.DataVolumeSourceRef{Kind: cdiv1.DataVolumeDataSource, Name: name}
	if namespace != "" {
		spec.SourceRef.Namespace = &namespace
	}
	return err
}
