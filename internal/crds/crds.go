// Package crds holds the CustomResourceDefinitions the platform serves, generated from the published API types.
package crds

import (
	"embed"
	"fmt"
	"io/fs"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

//go:generate go run ./gen .

//go:embed *.yaml
var files embed.FS

// KubeVirtFile is the definition `virtctl install` applies itself: the operator serves it and cannot install it.
const KubeVirtFile = "kubevirt.io_kubevirts.yaml"

// KubeVirt is the definition of the KubeVirt kind.
func KubeVirt() (*unstructured.Unstructured, error) { return read(KubeVirtFile) }

// Platform lists the definitions the operator installs.
func Platform() ([]*unstructured.Unstructured, error) {
	names, err := fs.Glob(files, "*.yaml")
	if err != nil {
		return nil, err
	}
	var out []*unstructured.Unstructured
	for _, name := range names {
		if name == KubeVirtFile {
			continue
		}
		crd, err := read(name)
		if err != nil {
			return nil, err
		}
		out = append(out, crd)
	}
	return out, nil
}

func read(name string) (*unstructured.Unstructured, error) {
	raw, err := files.ReadFile(name)
	if err != nil {
		return nil, err
	}
	obj := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(raw, &obj.Object); err != nil {
		return nil, fmt.Errorf("parse embedded %s: %w", name, err)
	}
	return obj, nil
}
