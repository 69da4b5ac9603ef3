package node

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"

	v1 "kubevirt.io/api/core/v1"
)

const (
	// deprecatedCPUManager is the label's old name, which old manifests select.
	deprecatedCPUManager = "cpumanager"
	maxState             = 1 << 20
)

// CPUManager says in labels whether the node's kubelet gives pods processors of their own: it writes its policy down.
func CPUManager(kubeletDir string) map[string]string {
	value := "false"
	if static(filepath.Join(kubeletDir, "cpu_manager_state")) {
		value = "true"
	}
	return map[string]string{v1.CPUManager: value, deprecatedCPUManager: value}
}

func static(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false // a kubelet without a CPU manager
	}
	defer f.Close()
	var state struct {
		Policy string `json:"policyName"`
	}
	return json.NewDecoder(io.LimitReader(f, maxState)).Decode(&state) == nil && state.Policy == "static"
}
