package await

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	kubevirtv1 "kubevirt.io/api/core/v1"
)

// Phase says in a word what the machine is doing.
func (s State) Phase() string {
	switch {
	case s.VM != nil && s.VM.Status.PrintableStatus != "":
		return string(s.VM.Status.PrintableStatus)
	case s.VMI != nil && s.VMI.Status.Phase != "":
		return string(s.VMI.Status.Phase)
	case s.VM == nil && s.VMI == nil:
		return "does not exist"
	case s.VMI != nil:
		return "Pending"
	}
	return "Stopped"
}

func (s State) running() bool {
	return s.VMI != nil && s.VMI.Status.Phase == kubevirtv1.Running && s.VMI.DeletionTimestamp == nil && s.shown()
}

// shown tells whether the VM's status says what its run's says: it follows a moment later, and who looks after a wait must not
// see the state before.
func (s State) shown() bool {
	if s.VM == nil {
		return true
	}
	switch s.VM.Status.PrintableStatus {
	case kubevirtv1.VirtualMachineStatusRunning, kubevirtv1.VirtualMachineStatusPaused, kubevirtv1.VirtualMachineStatusMigrating:
		return true
	}
	return false
}

// final tells whether the machine's run is over.
func (s State) final() bool {
	return s.VMI != nil && (s.VMI.Status.Phase == kubevirtv1.Failed || s.VMI.Status.Phase == kubevirtv1.Succeeded)
}

// restarts tells whether the VM's run strategy starts the machine again by itself after phase.
func (s State) restarts() bool {
	if s.VM == nil {
		return false
	}
	strategy, err := s.VM.RunStrategy()
	if err != nil {
		return false
	}
	failed := s.VMI != nil && s.VMI.Status.Phase == kubevirtv1.Failed
	return strategy == kubevirtv1.RunStrategyAlways || strategy == kubevirtv1.RunStrategyRerunOnFailure && failed
}

// stays tells whether a finished run is kept, as opposed to being deleted or replaced in a moment.
func (s State) stays() bool {
	if s.VMI.DeletionTimestamp != nil || s.restarts() {
		return false
	}
	if s.VM == nil {
		return true
	}
	strategy, err := s.VM.RunStrategy()
	return err == nil && strategy != kubevirtv1.RunStrategyHalted && len(s.VM.Status.StateChangeRequests) == 0
}

// ended judges states in which a run that was waited for is over for good.
func (s State) ended() (Verdict, string) {
	switch {
	case s.VM == nil && s.VMI == nil:
		return Hopeless, "it does not exist"
	case s.VM != nil && s.VM.DeletionTimestamp != nil:
		return Hopeless, "it is being deleted"
	case s.final() && s.VMI.DeletionTimestamp == nil && !s.restarts() && (s.VM == nil || len(s.VM.Status.StateChangeRequests) == 0):
		return Hopeless, "its run has ended with phase " + string(s.VMI.Status.Phase)
	}
	return Pending, s.Phase()
}

// Running is reached when the guest runs.
func Running() Goal {
	return Goal{Name: "running", Judge: func(s State) (Verdict, string) {
		if s.running() {
			return Reached, s.Phase()
		}
		return s.ended()
	}}
}

// Ready is reached when the guest runs and passes its readiness probe.
func Ready() Goal {
	return conditionGoal("ready", string(kubevirtv1.VirtualMachineInstanceReady), corev1.ConditionTrue)
}

// Agent is reached when the guest agent has connected.
func Agent() Goal {
	return conditionGoal("connected to its guest agent", string(kubevirtv1.VirtualMachineInstanceAgentConnected), corev1.ConditionTrue)
}

// Paused is reached when the guest's processors stand still, Unpaused when they do not.
func Paused() Goal {
	return conditionGoal("paused", string(kubevirtv1.VirtualMachineInstancePaused), corev1.ConditionTrue)
}

// Unpaused is reached when the guest runs and is not paused.
func Unpaused() Goal {
	return Goal{Name: "running again", Judge: func(s State) (Verdict, string) {
		if status, found := s.condition(string(kubevirtv1.VirtualMachineInstancePaused)); s.running() && (!found || status != corev1.ConditionTrue) {
			return Reached, s.Phase()
		}
		return s.ended()
	}}
}

// Condition is reached when the VM or its VMI has the condition with the status.
func Condition(kind string, status corev1.ConditionStatus) Goal {
	return conditionGoal(fmt.Sprintf("%s=%s", kind, status), kind, status)
}

func conditionGoal(name, kind string, want corev1.ConditionStatus) Goal {
	return Goal{Name: name, Judge: func(s State) (Verdict, string) {
		if status, found := s.condition(kind); found && status == want || !found && want == corev1.ConditionFalse && s.VMI != nil {
			return Reached, s.Phase()
		}
		return s.ended()
	}}
}

// condition reads a condition from the VMI, else from the VM. While the VM still shows another status than its run, nobody who
// looks after a wait may see it: the condition is unknown.
func (s State) condition(kind string) (corev1.ConditionStatus, bool) {
	var ofRun, ofVM corev1.ConditionStatus
	if s.VMI != nil {
		for _, c := range s.VMI.Status.Conditions {
			if strings.EqualFold(string(c.Type), kind) {
				ofRun = c.Status
			}
		}
	}
	if s.VM != nil {
		for _, c := range s.VM.Status.Conditions {
			if strings.EqualFold(string(c.Type), kind) {
				ofVM = c.Status
			}
		}
	}
	switch {
	case ofRun != "" && ofVM != "" && ofRun != ofVM:
		return corev1.ConditionUnknown, true
	case ofRun != "":
		return ofRun, true
	}
	return ofVM, ofVM != ""
}

// HasIP is reached when the guest has an address.
func HasIP() Goal {
	return Goal{Name: "reachable by an address", Judge: func(s State) (Verdict, string) {
		if s.running() && slices.ContainsFunc(s.VMI.Status.Interfaces, func(i kubevirtv1.VirtualMachineInstanceNetworkInterface) bool { return i.IP != "" }) {
			return Reached, s.Phase()
		}
		return s.ended()
	}}
}

// Stopped is reached when the machine exists and does not run.
func Stopped() Goal {
	return Goal{Name: "stopped", Judge: func(s State) (Verdict, string) {
		switch {
		case s.VM == nil && s.VMI == nil:
			return Hopeless, "it does not exist"
		case s.VMI == nil && s.VM.Status.PrintableStatus != kubevirtv1.VirtualMachineStatusStopping, s.VMI != nil && s.final() && s.stays():
			return Reached, "Stopped"
		}
		return Pending, s.Phase()
	}}
}

// Deleted is reached when nothing is left of the machine.
func Deleted() Goal {
	return Goal{Name: "deleted", Judge: func(s State) (Verdict, string) {
		if s.VM == nil && s.VMI == nil {
			return Reached, "deleted"
		}
		return Pending, s.Phase()
	}}
}

// RunningAnew is reached when another run than the one with this UID runs.
func RunningAnew(before types.UID) Goal {
	return Goal{Name: "running again", Judge: func(s State) (Verdict, string) {
		if s.running() && s.VMI.UID != before {
			return Reached, s.Phase()
		}
		if s.VMI != nil && s.VMI.UID == before {
			return Pending, s.Phase()
		}
		return s.ended()
	}}
}

// OnItsWay tells whether the machine runs or is about to, without anybody's doing.
func (s State) OnItsWay() bool {
	if s.VMI != nil {
		return !s.final() && s.VMI.DeletionTimestamp == nil || s.restarts()
	}
	if s.VM == nil || s.VM.DeletionTimestamp != nil {
		return false
	}
	if len(s.VM.Status.StateChangeRequests) > 0 {
		return true
	}
	strategy, err := s.VM.RunStrategy()
	if err != nil {
		return false
	}
	switch strategy {
	case kubevirtv1.RunStrategyAlways, kubevirtv1.RunStrategyOnce, kubevirtv1.RunStrategyRerunOnFailure:
		return s.VM.Status.PrintableStatus != kubevirtv1.VirtualMachineStatusStopped || strategy == kubevirtv1.RunStrategyAlways
	}
	return false
}
