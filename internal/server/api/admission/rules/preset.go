package rules

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/clusterconfig"
)

// Preset judges a VirtualMachineInstancePreset: what it brings must be good for some VMI. Volumes are the VMI's, so its disks may name any.
func Preset(preset *v1.VirtualMachineInstancePreset, cluster clusterconfig.Config) []metav1.StatusCause {
	c := &Check{cluster: cluster}
	spec := field.NewPath("spec")
	// A selector that nobody can read would keep every VMI of the namespace from being created.
	if _, err := metav1.LabelSelectorAsSelector(&preset.Spec.Selector); err != nil {
		c.invalid(spec.Child("selector"), "%s", err)
	}
	if preset.Spec.Domain == nil {
		c.required(spec.Child("domain"), "missing domain.")
		return c.causes
	}
	instance := &v1.VirtualMachineInstanceSpec{Domain: *preset.Spec.Domain}
	if c.tooLong(spec, instance) {
		return c.causes
	}
	for _, r := range []rule{diskTargets, diskTuning, bootOrder, firmware} {
		r(c, spec, instance)
	}
	return c.causes
}
