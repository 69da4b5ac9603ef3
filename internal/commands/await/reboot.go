package await

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubevirtv1 "kubevirt.io/api/core/v1"
)

// AgentSince is when the guest agent connected; the zero time when it has not.
func AgentSince(vmi *kubevirtv1.VirtualMachineInstance) metav1.Time {
	for _, c := range vmi.Status.Conditions {
		if c.Type == kubevirtv1.VirtualMachineInstanceAgentConnected && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime
		}
	}
	return metav1.Time{}
}

// Rebooted is reached when the guest is back. Its agent tells: it went and came again since. Of a guest without an agent nothing tells
// more than that it runs.
func Rebooted(before metav1.Time) Goal {
	left := false
	return Goal{Name: "running again", Judge: func(s State) (Verdict, string) {
		switch {
		case s.VMI == nil:
			return Hopeless, s.Phase()
		case s.final():
			return Hopeless, s.Phase()
		case !s.running():
			return Pending, s.Phase()
		case before.IsZero():
			return Reached, s.Phase()
		}
		now := AgentSince(s.VMI)
		if now.IsZero() {
			left = true
			return Pending, "the guest is rebooting"
		}
		if left || !now.Equal(&before) {
			return Reached, s.Phase()
		}
		return Pending, "the guest agent is still connected"
	}}
}
