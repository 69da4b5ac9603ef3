// Package condition reads and sets conditions of VirtualMachineInstances.
package condition

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
)

// PodScheduled is the pod's condition of that name, shown on the VMI while it is False.
const PodScheduled = v1.VirtualMachineInstanceConditionType(corev1.PodScheduled)

// Of gives a condition, or nil.
func Of(vmi *v1.VirtualMachineInstance, t v1.VirtualMachineInstanceConditionType) *v1.VirtualMachineInstanceCondition {
	for i := range vmi.Status.Conditions {
		if vmi.Status.Conditions[i].Type == t {
			return &vmi.Status.Conditions[i]
		}
	}
	return nil
}

// Is tells whether a condition is there and has this status.
func Is(vmi *v1.VirtualMachineInstance, t v1.VirtualMachineInstanceConditionType, status corev1.ConditionStatus) bool {
	c := Of(vmi, t)
	return c != nil && c.Status == status
}

// Reason gives the reason of a condition that is False, or nothing.
func Reason(vmi *v1.VirtualMachineInstance, t v1.VirtualMachineInstanceConditionType) string {
	if c := Of(vmi, t); c != nil && c.Status == corev1.ConditionFalse {
		return c.Reason
	}
	return ""
}

// Set makes the condition what c says. It tells whether anything changed; the time of transition moves only with the status.
func Set(vmi *v1.VirtualMachineInstance, c v1.VirtualMachineInstanceCondition, now time.Time) bool {
	old := Of(vmi, c.Type)
	if old == nil {
		c.LastTransitionTime = metav1.NewTime(now)
		vmi.Status.Conditions = append(vmi.Status.Conditions, c)
		return true
	}
	if old.Status == c.Status && old.Reason == c.Reason && old.Message == c.Message {
		return false
	}
	if old.Status != c.Status {
		old.LastTransitionTime = metav1.NewTime(now)
	}
	old.Status, old.Reason, old.Message = c.Status, c.Reason, c.Message
	return true
}

// Remove takes a condition away.
func Remove(vmi *v1.VirtualMachineInstance, t v1.VirtualMachineInstanceConditionType) {
	for i := range vmi.Status.Conditions {
		if vmi.Status.Conditions[i].Type == t {
			vmi.Status.Conditions = append(vmi.Status.Conditions[:i:i], vmi.Status.Conditions[i+1:]...)
			return
		}
	}
}
