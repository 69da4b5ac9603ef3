package vm

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
)

// vmCondition gives a condition of a VM; an absent one has no status.
func vmCondition(vm *v1.VirtualMachine, t v1.VirtualMachineConditionType) v1.VirtualMachineCondition {
	for _, c := range vm.Status.Conditions {
		if c.Type == t {
			return c
		}
	}
	return v1.VirtualMachineCondition{}
}

func setVMCondition(vm *v1.VirtualMachine, c v1.VirtualMachineCondition, now time.Time) {
	for i := range vm.Status.Conditions {
		old := &vm.Status.Conditions[i]
		if old.Type != c.Type {
			continue
		}
		if old.Status != c.Status {
			old.LastTransitionTime = metav1.NewTime(now)
		}
		old.Status, old.Reason, old.Message = c.Status, c.Reason, c.Message
		return
	}
	c.LastTransitionTime = metav1.NewTime(now)
	vm.Status.Conditions = append(vm.Status.Conditions, c)
}

func removeVMCondition(vm *v1.VirtualMachine, t v1.VirtualMachineConditionType) {
	for i := range vm.Status.Conditions {
		if vm.Status.Conditions[i].Type == t {
			vm.Status.Conditions = append(vm.Status.Conditions[:i:i], vm.Status.Conditions[i+1:]...)
			return
		}
	}
}

// ownCondition tells whether a condition is the VM's own; all others mirror the VMI's.
func ownCondition(t v1.VirtualMachineConditionType) bool {
	switch t {
	case v1.VirtualMachineReady, v1.VirtualMachineFailure, v1.VirtualMachineRestartRequired, v1.VirtualMachineManualRecoveryRequired:
		return true
	}
	return false
}

// mirror shows the VMI's conditions on the VM.
func mirror(vm *v1.VirtualMachine, vmi *v1.VirtualMachineInstance, now time.Time) {
	theirs := map[v1.VirtualMachineConditionType]bool{}
	if vmi != nil {
		for _, c := range vmi.Status.Conditions {
			t := v1.VirtualMachineConditionType(c.Type)
			if ownCondition(t) {
				continue
			}
			theirs[t] = true
			setVMCondition(vm, v1.VirtualMachineCondition{Type: t, Status: c.Status, Reason: c.Reason, Message: c.Message},
				c.LastTransitionTime.Time)
		}
	}
	kept := vm.Status.Conditions[:0:0]
	for _, c := range vm.Status.Conditions {
		if ownCondition(c.Type) || theirs[c.Type] {
			kept = append(kept, c)
		}
	}
	vm.Status.Conditions = kept
	setVMCondition(vm, readiness(vmi), now)
}

func readiness(vmi *v1.VirtualMachineInstance) v1.VirtualMachineCondition {
	ready := v1.VirtualMachineCondition{Type: v1.VirtualMachineReady, Status: corev1.ConditionFalse}
	if vmi == nil {
		ready.Reason, ready.Message = "VMINotExists", "VMI does not exist"
		return ready
	}
	for _, c := range vmi.Status.Conditions {
		if c.Type == v1.VirtualMachineInstanceReady {
			ready.Status, ready.Reason, ready.Message = c.Status, c.Reason, c.Message
			return ready
		}
	}
	if vmi.IsUnprocessed() {
		// What the VMI will say of itself as soon as it has a pod.
		ready.Reason, ready.Message = v1.GuestNotRunningReason, "Guest VM is not reported as running"
		return ready
	}
	ready.Reason, ready.Message = "VMIConditionMissing", "VMI is missing the Ready condition"
	return ready
}
