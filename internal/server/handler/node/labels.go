package node

import (
	"regexp"
	"strings"

	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/clusterconfig"
)

// managedPrefixes are the label families that Agent owns: what it does not want there it removes.
func managedPrefixes() []string {
	return []string{
		v1.CPUFeatureLabel, v1.CPUModelLabel, v1.SupportedHostModelMigrationCPU, v1.CPUTimerLabel, v1.HypervLabel,
		v1.CPUModelVendorLabel, v1.SupportedMachineTypeLabel, v1.HostModelCPULabel, v1.HostModelRequiredFeaturesLabel,
	}
}

func managed(label string) bool {
	switch label {
	case v1.NodeSchedulable, v1.CPUManager, deprecatedCPUManager:
		return true
	}
	for _, p := range managedPrefixes() {
		if strings.HasPrefix(label, p) {
			return true
		}
	}
	return false
}

// labelName is what Kubernetes accepts after a label's slash.
var labelName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)

// maxLabels bounds how many labels a probe can put on the node.
const maxLabels = 1024

// Labels says in labels what the probe found.
func Labels(p *Probe, config clusterconfig.Config) map[string]string {
	labels := map[string]string{}
	add := func(prefix, name string) {
		if labelName.MatchString(name) && len(labels) < maxLabels {
			labels[prefix+name] = "true"
		}
	}
	if p == nil {
		return labels
	}
	for _, m := range p.Machines {
		add(v1.SupportedMachineTypeLabel, m)
	}
	for _, m := range p.cpu.models {
		if !config.Compute.ObsoleteCPUModels[m] {
			add(v1.CPUModelLabel, m)
			add(v1.SupportedHostModelMigrationCPU, m)
		}
	}
	for _, f := range p.cpu.features {
		add(v1.CPUFeatureLabel, f)
		add(v1.HostModelRequiredFeaturesLabel, f)
	}
	for _, e := range p.cpu.hyperV {
		add(v1.HypervLabel, e)
	}
	add(v1.HostModelCPULabel, p.cpu.hostModel)
	add(v1.CPUModelVendorLabel, p.cpu.vendor)
	return labels
}
