package rules

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/clusterconfig"
)

// ReplicaSet judges a VirtualMachineInstanceReplicaSet. effective is its template's spec with the defaults.
func ReplicaSet(rs *v1.VirtualMachineInstanceReplicaSet, effective *v1.VirtualMachineInstanceSpec, cluster clusterconfig.Config) []metav1.StatusCause {
	c := &Check{cluster: cluster, template: true}
	spec := field.NewPath("spec")
	if rs.Spec.Template == nil {
		c.required(spec.Child("template"), "missing virtual machine template.")
		return c.causes
	}
	if r := rs.Spec.Replicas; r != nil && *r < 0 {
		c.invalid(spec.Child("replicas"), "%s must be greater than or equal to 0", spec.Child("replicas"))
	}
	metadata(c, spec.Child("template", "metadata"), &rs.Spec.Template.ObjectMeta, false)
	selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	switch {
	case err != nil:
		c.invalid(spec.Child("selector"), "%s", err)
	case !selector.Matches(labels.Set(rs.Spec.Template.ObjectMeta.Labels)):
		c.invalid(spec.Child("selector"), "selector does not match labels of the template.")
	}
	if effective != nil {
		judge(c, spec.Child("template", "spec"), effective)
	}
	return c.causes
}
