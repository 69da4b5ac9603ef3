package node

import (
	"os"
	"path/filepath"
	"testing"

	v1 "kubevirt.io/api/core/v1"
)

// A VM with dedicated processors on a node that gives none would share them without knowing.
func TestCPUManager(t *testing.T) {
	dir := t.TempDir()
	if l := CPUManager(dir); l[v1.CPUManager] != "false" || l["cpumanager"] != "false" {
		t.Errorf("without a state: %v", l)
	}
	for text, want := range map[string]string{`{"policyName":"static","defaultCpuSet":"0-3"}`: "true", `{"policyName":"none"}`: "false", "{": "false"} {
		if err := os.WriteFile(filepath.Join(dir, "cpu_manager_state"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if l := CPUManager(dir); l[v1.CPUManager] != want || !managed(v1.CPUManager) || !managed("cpumanager") {
			t.Errorf("%s: %v", text, l)
		}
	}
}
