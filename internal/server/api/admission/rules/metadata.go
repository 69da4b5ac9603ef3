package rules

import (
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/clusterconfig"
)

// maxDomainName is how long "<namespace>_<name>" may be: libvirt and QEMU make file names of it, with endings of up to
// eight characters, and file names end at 255.
const maxDomainName = 247

// sidecarAnnotation asks for containers of the user's that may change the domain.
const sidecarAnnotation = "hooks.kubevirt.io/hookSidecars"

// reservedLabels are the platform's own: pods and VMIs are found by them.
func reservedLabels() []string {
	return []string{
		v1.CreatedByLabel, v1.MigrationJobLabel, v1.NodeNameLabel, v1.MigrationTargetNodeNameLabel,
		v1.NodeSchedulable, v1.InstallStrategyLabel,
	}
}

func domainName(c *Check, meta *metav1.ObjectMeta) {
	at := field.NewPath("metadata", "name")
	if n := len(meta.Namespace) + 1 + len(meta.Name); n > maxDomainName {
		c.invalid(at, "%s is too long: namespace and name together must be at most %d characters, not %d", at, maxDomainName-1, n-1)
	}
}

// metadata judges the metadata of a VMI, or of a template for one.
func metadata(c *Check, at *field.Path, meta *metav1.ObjectMeta, platform bool) {
	if !platform {
		var used []string
		for _, l := range reservedLabels() {
			if _, set := meta.Labels[l]; set {
				used = append(used, l)
			}
		}
		if len(used) > 0 {
			c.unsupported(at.Child("labels"), "creation of the following reserved kubevirt.io/ labels on a VMI object is prohibited: %s",
				strings.Join(used, ", "))
		}
	}
	gates := map[string]string{v1.IgnitionAnnotation: clusterconfig.GateExperimentalIgnition, sidecarAnnotation: clusterconfig.GateSidecar}
	for _, annotation := range slices.Sorted(maps.Keys(gates)) {
		if meta.Annotations[annotation] != "" {
			c.gate(at.Child("annotations"), gates[annotation], "the annotation "+annotation+" is not allowed")
		}
	}
}

// reservedLabelChanges judges an update of a VMI by somebody who is not the platform.
func reservedLabelChanges(c *Check, before, after map[string]string) {
	var changed []string
	for _, l := range reservedLabels() {
		if before[l] != after[l] {
			changed = append(changed, l)
		}
	}
	if len(changed) > 0 {
		c.unsupported(field.NewPath("metadata", "labels"),
			"modification of the following reserved kubevirt.io/ labels on a VMI object is prohibited: %s", strings.Join(changed, ", "))
	}
}
