package domain

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// Every value of every case, replaced by each of these, must give a document or a refusal that names a field.
func TestConvertMangled(t *testing.T) {
	values := []any{nil, map[string]any{}, []any{}, []any{map[string]any{}}, "", "x", -1, 0, 4294967295, "-1", "9999999Ei", true, false}
	accepted := 0
	for _, name := range caseNames(t) {
		doc, err := os.ReadFile(filepath.Join("testdata", name+".vmi.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var root map[string]any
		if err := yaml.Unmarshal(doc, &root); err != nil {
			t.Fatal(err)
		}
		_, in, _ := loadCase(t, name)
		eachNode(root, func(set func(any), old any) {
			for _, value := range values {
				set(value)
				if convertsOrRefuses(t, root, in) {
					accepted++
				}
			}
			set(old)
		})
	}
	if accepted < 1000 {
		t.Errorf("only %d mangled objects were read at all", accepted)
	}
}

// eachNode visits every value below root with a way to replace it.
func eachNode(node any, visit func(set func(any), old any)) {
	switch node := node.(type) {
	case map[string]any:
		for key, value := range node {
			visit(func(v any) { node[key] = v }, value)
			eachNode(value, visit)
		}
	case []any:
		for i, value := range node {
			visit(func(v any) { node[i] = v }, value)
			eachNode(value, visit)
		}
	}
}

// convertsOrRefuses tells whether the mangled object could be read as a VirtualMachineInstance.
func convertsOrRefuses(t *testing.T, root map[string]any, in Input) bool {
	t.Helper()
	doc, err := json.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	vmi := &v1.VirtualMachineInstance{}
	if json.Unmarshal(doc, vmi) != nil {
		return false
	}
	specs, err := Disks(vmi, DiskOptions{AllowHostDisk: true})
	checkError(t, err)
	in.Disks = prepared(specs)
	xml, err := XML(vmi, in)
	checkError(t, err)
	if len(xml) > 4<<20 {
		t.Fatalf("a document of %d bytes from %s", len(xml), doc)
	}
	return true
}
