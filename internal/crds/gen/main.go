// Command gen writes the CustomResourceDefinitions from the types published in kubevirt.io/api and
// kubevirt.io/containerized-data-importer-api.
//
// KubeVirt's published types carry no kubebuilder markers for names, printer columns and subresources: those are public contract and
// stand in the table below.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	extv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// controllerGen is the pinned schema generator.
const controllerGen = "sigs.k8s.io/controller-tools/cmd/controller-gen@v0.21.0"

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(outDir string) error {
	work, err := os.MkdirTemp("", "crdgen")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	args := []string{"run", controllerGen, "crd:maxDescLen=0,allowDangerousTypes=true", "output:dir=" + work}
	for _, pkg := range append(packages(), cdiPackages...) {
		args = append(args, "paths="+pkg)
	}
	cmd := exec.Command("go", args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s: %w", controllerGen, err)
	}
	for _, d := range definitions {
		if err := write(d, work, outDir); err != nil {
			return fmt.Errorf("%s.%s: %w", d.plural, d.group, err)
		}
	}
	if err := writeRefused(outDir); err != nil {
		return err
	}
	return writeMarked(work, outDir)
}

func packages() []string {
	var out []string
	seen := map[string]bool{}
	for _, d := range definitions {
		if !seen[d.pkg] {
			seen[d.pkg] = true
			out = append(out, d.pkg)
		}
	}
	return out
}

func write(d definition, from, to string) error {
	file := d.group + "_" + d.plural + ".yaml"
	raw, err := os.ReadFile(filepath.Join(from, file))
	if err != nil {
		return err
	}
	var crd extv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(raw, &crd); err != nil {
		return err
	}
	out := d.render(crd.Spec.Versions[0].Schema)
	rendered, err := yaml.Marshal(out)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to, file), rendered, 0o644)
}
