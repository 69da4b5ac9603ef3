package main

import (
	"os"
	"path/filepath"
	"strings"

	extv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// cdiPackages publish CDI's types. Unlike KubeVirt's they carry the markers for names, columns and subresources.
var cdiPackages = []string{
	"kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1",
	"kubevirt.io/containerized-data-importer-api/pkg/apis/forklift/v1beta1",
}

// writeMarked writes the definitions that the generator could make whole.
func writeMarked(from, to string) error {
	files, err := filepath.Glob(filepath.Join(from, "*cdi.kubevirt.io_*.yaml"))
	if err != nil {
		return err
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		rendered, err := relabel(raw)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, filepath.Base(file)), rendered, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func relabel(raw []byte) ([]byte, error) {
	var crd extv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(raw, &crd); err != nil {
		return nil, err
	}
	crd.Labels = map[string]string{"app.kubernetes.io/part-of": "virtctl", "cdi.kubevirt.io": ""}
	crd.Annotations = nil
	for i := range crd.Spec.Versions {
		root := crd.Spec.Versions[i].Schema.OpenAPIV3Schema
		for name, prop := range root.Properties {
			if name != "metadata" {
				openMetadata(&prop)
				root.Properties[name] = prop
			}
		}
	}
	out, err := yaml.Marshal(crd)
	if err != nil {
		return nil, err
	}
	// The generator's own type has a status that a file does not.
	text, _, _ := strings.Cut(string(out), "\nstatus:\n")
	return []byte(strings.TrimSuffix(text, "\n") + "\n"), nil
}
