// Package crds holds the CustomResourceDefinitions the platform serves, generated from the published API types.
package crds

import (
	"embed"
	"fmt"
	"io/fs"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

//go:generate go run ./gen .

//go:embed *.yaml
var files embed.FS

// KubeVirtFile is the definition `virtctl install` applies itself: the operator serves it and cannot install it.
const KubeVirtFile = "kubevirt.io_kubevirts.yaml"

// CDIFile is the same for CDI's operator.
const CDIFile = "cdi.kubevirt.io_cdis.yaml"

// KubeVirt is the definition of the KubeVirt kind.
func KubeVirt() (*unstructured.Unstructured, error) { return read(KubeVirtFile) }

// CDI is the definition of the CDI kind.
func CDI() (*unstructured.Unstructured, error) { return read(CDIFile) }

// Platform lists the definitions virt-operator installs.
func Platform() ([]*unstructured.Unstructured, error) {
	return list(func(name string) bool { return !ofCDI(name) && name != KubeVirtFile })
}

// Storage lists the definitions cdi-operator installs.
func Storage() ([]*unstructured.Unstructured, error) {
	return list(func(name string) bool { return ofCDI(name) && name != CDIFile })
}

func ofCDI(name string) bool {
	group, _, _ := strings.Cut(name, "_")
	return group == "cdi.kubevirt.io" || strings.HasSuffix(group, ".cdi.kubevirt.io")
}

func list(wanted func(name string) bool) ([]*unstructured.Unstructured, error) {
	names, err := fs.Glob(files, "*.yaml")
	if err != nil {
		return nil, err
	}
	var out []*unstructured.Unstructured
	for _, name := range names {
		if !wanted(name) {
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
