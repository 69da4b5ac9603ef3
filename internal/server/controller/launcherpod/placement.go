package launcherpod

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/clusterconfig"
)

const yes = "true"

// nodeSelector picks nodes that have what the VM asks for by name. What a VM leaves to us selects nothing: any node will do.
func nodeSelector(vmi *v1.VirtualMachineInstance, c clusterconfig.Config) map[string]string {
	s := map[string]string{}
	maps.Copy(s, c.Launcher.NodeSelector)
	maps.Copy(s, vmi.Spec.NodeSelector)
	s[v1.NodeSchedulable] = yes
	if vmi.Spec.Architecture != "" {
		s[corev1.LabelArchStable] = vmi.Spec.Architecture
	}
	arch := vmi.Spec.Architecture
	if arch == "" {
		arch = c.DefaultArchitecture
	}
	// Admission writes down the cluster's default: a node that cannot do it is not asked to say so.
	if machine := vmi.Spec.Domain.Machine; machine != nil && machine.Type != "" && machine.Type != c.Machines.For(arch).Type {
		s[v1.SupportedMachineTypeLabel+machine.Type] = yes
	}
	cpuSelector(s, vmi, c)
	securitySelector(s, vmi)
	if c.Gate(clusterconfig.GateHypervStrictCheck) {
		hypervSelector(s, vmi)
	}
	return s
}

// cpuSelector: with emulation the node's processor does not matter, QEMU provides the model.
func cpuSelector(s map[string]string, vmi *v1.VirtualMachineInstance, c clusterconfig.Config) {
	cpu := vmi.Spec.Domain.CPU
	if cpu == nil {
		return
	}
	if cpu.DedicatedCPUPlacement {
		s[v1.CPUManager] = yes
	}
	if cpu.Realtime != nil {
		s[v1.RealtimeLabel] = yes
	}
	if c.Emulates(vmi.Annotations) {
		return
	}
	switch cpu.Model {
	case "", v1.CPUModeHostModel, v1.CPUModeHostPassthrough:
	default:
		s[v1.CPUModelLabel+cpu.Model] = yes
	}
	for _, f := range cpu.Features {
		if f.Policy == "" || f.Policy == "require" {
			s[v1.CPUFeatureLabel+f.Name] = yes
		}
	}
}

func securitySelector(s map[string]string, vmi *v1.VirtualMachineInstance) {
	l := vmi.Spec.Domain.LaunchSecurity
	if l == nil {
		return
	}
	switch {
	case l.SNP != nil:
		s[v1.SEVSNPLabel] = yes
	case l.SEV != nil && l.SEV.Policy != nil && isSet(l.SEV.Policy.EncryptedState):
		s[v1.SEVESLabel] = yes
	case l.SEV != nil:
		s[v1.SEVLabel] = yes
	case l.TDX != nil:
		s[v1.TDXLabel] = yes
	case vmi.Spec.Architecture == "s390x":
		s[v1.SecureExecutionLabel] = yes
	}
}

// hypervSelector asks for the enlightenments that need the node's help.
func hypervSelector(s map[string]string, vmi *v1.VirtualMachineInstance) {
	f := vmi.Spec.Domain.Features
	if f == nil || f.Hyperv == nil {
		return
	}
	h := f.Hyperv
	for name, state := range map[string]*v1.FeatureState{
		"vpindex": h.VPIndex, "runtime": h.Runtime, "synic": h.SyNIC, "reset": h.Reset, "frequencies": h.Frequencies,
		"reenlightenment": h.Reenlightenment, "ipi": h.IPI,
	} {
		if state != nil && isOn(state.Enabled) {
			s[v1.HypervLabel+name] = yes
		}
	}
	if t := h.SyNICTimer; t != nil && isOn(t.Enabled) {
		s[v1.HypervLabel+"synictimer"] = yes
	}
	if t := h.TLBFlush; t != nil && isOn(t.Enabled) {
		s[v1.HypervLabel+"tlbflush"] = yes
	}
	if h.EVMCS != nil && isOn(h.EVMCS.Enabled) {
		s[v1.CPUFeatureLabel+"vmx"] = yes
	}
}

// affinity is the VMI's, with terms for what a node must not have.
func affinity(vmi *v1.VirtualMachineInstance, c clusterconfig.Config) *corev1.Affinity {
	avoid := avoidedLabels(vmi, c)
	if len(avoid) == 0 {
		return vmi.Spec.Affinity
	}
	a := vmi.Spec.Affinity.DeepCopy()
	if a == nil {
		a = &corev1.Affinity{}
	}
	if a.NodeAffinity == nil {
		a.NodeAffinity = &corev1.NodeAffinity{}
	}
	required := a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	if required == nil {
		required = &corev1.NodeSelector{}
		a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = required
	}
	if len(required.NodeSelectorTerms) == 0 {
		required.NodeSelectorTerms = []corev1.NodeSelectorTerm{{}}
	}
	// Terms are alternatives: each of them must exclude the node.
	for i := range required.NodeSelectorTerms {
		for _, label := range avoid {
			required.NodeSelectorTerms[i].MatchExpressions = append(required.NodeSelectorTerms[i].MatchExpressions,
				corev1.NodeSelectorRequirement{Key: label, Operator: corev1.NodeSelectorOpDoesNotExist})
		}
	}
	return a
}

func avoidedLabels(vmi *v1.VirtualMachineInstance, c clusterconfig.Config) []string {
	cpu := vmi.Spec.Domain.CPU
	if cpu == nil || c.Emulates(vmi.Annotations) {
		return nil
	}
	var avoid []string
	if cpu.Model == v1.CPUModeHostModel {
		avoid = append(avoid, v1.NodeHostModelIsObsoleteLabel)
	}
	for _, f := range cpu.Features {
		if f.Policy == "forbid" {
			avoid = append(avoid, v1.CPUFeatureLabel+f.Name)
		}
	}
	return avoid
}
