// Package instancetype applies instance types and preferences to virtual machines.
//
// An instance type owns what it sets: a machine that sets the same field conflicts with it. A preference only fills what the
// machine leaves open.
package instancetype

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
	"kubevirt.io/api/instancetype/v1beta1"

	"virtctl/internal/autoattach"
	"virtctl/internal/clusterconfig"
)

// Types are what a machine refers to; either may be nil.
type Types struct {
	Instancetype *v1beta1.VirtualMachineInstancetypeSpec
	Preference   *v1beta1.VirtualMachinePreferenceSpec
}

// Attach gives a machine with a preference the devices that it need not name, so that the preference counts for them as well.
// It comes before Apply.
func (t Types) Attach(spec *v1.VirtualMachineInstanceSpec, cluster clusterconfig.Config) error {
	if t.Preference == nil {
		return nil
	}
	preferAutoattach(t.Preference.Devices, &spec.Domain.Devices)
	autoattach.VolumeDisks(spec)
	autoattach.InputDevice(spec)
	return autoattach.PodNetwork(spec, cluster)
}

// Apply writes the preference and the instance type into a machine's instance. Conflicts must have been refused before.
func (t Types) Apply(meta *metav1.ObjectMeta, spec *v1.VirtualMachineInstanceSpec) {
	if t.Preference != nil {
		preferAutoattach(t.Preference.Devices, &spec.Domain.Devices)
	}
	if t.Instancetype != nil {
		t.applyInstancetype(spec)
		annotate(meta, t.Instancetype.Annotations)
	}
	if t.Preference != nil {
		prefer(t.Preference, spec)
		annotate(meta, t.Preference.Annotations)
	}
}

func annotate(meta *metav1.ObjectMeta, add map[string]string) {
	for key, value := range add {
		if _, set := meta.Annotations[key]; set {
			continue
		}
		if meta.Annotations == nil {
			meta.Annotations = map[string]string{}
		}
		meta.Annotations[key] = value
	}
}

// fill sets a field that the machine left open.
func fill[T any](field **T, preferred *T) {
	if *field == nil && preferred != nil {
		value := *preferred
		*field = &value
	}
}

// fillValue sets a field whose zero value means "not chosen".
func fillValue[T comparable](field *T, preferred T) {
	var zero T
	if *field == zero {
		*field = preferred
	}
}
