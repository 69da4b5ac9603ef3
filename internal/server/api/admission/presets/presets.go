// Package presets fills VMIs that are being created with what VirtualMachineInstancePresets of their namespace say. The kind is
// deprecated; its meaning is that of the public contract (https://kubevirt.io/user-guide/user_workloads/presets).
package presets

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	v1 "kubevirt.io/api/core/v1"
)

const (
	// Excluded is the annotation that keeps presets away from a VMI when it is "true".
	Excluded = "virtualmachineinstancepresets.admission.kubevirt.io/exclude"
	// applied and a preset's name are the annotation that tells which presets a VMI was made with.
	applied = "virtualmachinepreset.kubevirt.io/"
	// deprecated is said whenever a preset was of use.
	deprecated = "kubevirt.io/v1 VirtualMachineInstancePresets is now deprecated and will be removed in v2."
	// maxWarning keeps answers short: API servers cut long warnings.
	maxWarning = 240
)

// Apply fills the VMI and marks it, and gives what its user should know. What the VMI says itself stays. An error says that presets
// contradict each other, so that nobody can tell what the VMI should be.
func Apply(vmi *v1.VirtualMachineInstance, all []v1.VirtualMachineInstancePreset) ([]string, error) {
	if vmi.Annotations[Excluded] == "true" {
		return nil, nil
	}
	matching, err := matching(vmi, all)
	if err != nil {
		return nil, err
	}
	if err := agree(matching); err != nil {
		return nil, err
	}
	var warnings []string
	used := false
	for i := range matching {
		preset := &matching[i]
		some, conflicts := merge(preset.Spec.Domain, &vmi.Spec.Domain)
		if some {
			mark(vmi, preset.Name)
			used = true
		}
		if len(conflicts) > 0 {
			warnings = append(warnings, shorten(fmt.Sprintf("preset %s: the VirtualMachineInstance's own settings were kept: %s",
				preset.Name, strings.Join(conflicts, ", "))))
		}
	}
	if used {
		warnings = append(warnings, deprecated)
	}
	return warnings, nil
}

// matching gives the presets that select the VMI, by name: the order in which they are applied must not depend on a cache.
func matching(vmi *v1.VirtualMachineInstance, all []v1.VirtualMachineInstancePreset) ([]v1.VirtualMachineInstancePreset, error) {
	var out []v1.VirtualMachineInstancePreset
	for _, preset := range all {
		selector, err := metav1.LabelSelectorAsSelector(&preset.Spec.Selector)
		if err != nil {
			return nil, fmt.Errorf("spec.selector of VirtualMachineInstancePreset %s: %w; mend or delete it", preset.Name, err)
		}
		if preset.Namespace == vmi.Namespace && preset.Spec.Domain != nil && selector.Matches(labels.Set(vmi.Labels)) {
			out = append(out, preset)
		}
	}
	slices.SortFunc(out, func(a, b v1.VirtualMachineInstancePreset) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// agree refuses presets of which one says what another denies.
func agree(matching []v1.VirtualMachineInstancePreset) error {
	var found []string
	for i, preset := range matching {
		for _, other := range matching[:i] {
			if conflicts := contradictions(preset.Spec.Domain, other.Spec.Domain); len(conflicts) > 0 {
				found = append(found, fmt.Sprintf("presets '%s' and '%s' conflict: %s", preset.Name, other.Name, strings.Join(conflicts, ", ")))
			}
		}
	}
	if len(found) > 0 {
		return fmt.Errorf("VirtualMachinePresets cannot be applied due to conflicts: %s", strings.Join(found, "; ")) //nolint:staticcheck // contract
	}
	return nil
}

func mark(vmi *v1.VirtualMachineInstance, preset string) {
	if vmi.Annotations == nil {
		vmi.Annotations = map[string]string{}
	}
	vmi.Annotations[applied+preset] = v1.GroupVersion.String()
}

func shorten(s string) string {
	if len(s) <= maxWarning {
		return s
	}
	return strings.ToValidUTF8(s[:maxWarning], "") + "..."
}
