package vm

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/server/controller/condition"
)

func inPhase(phase v1.VirtualMachineInstancePhase, conditions ...v1.VirtualMachineInstanceCondition) *v1.VirtualMachineInstance {
	vmi := &v1.VirtualMachineInstance{}
	vmi.Status.Phase, vmi.Status.Conditions = phase, conditions
	return vmi
}

func no(t v1.VirtualMachineInstanceConditionType, reason string) v1.VirtualMachineInstanceCondition {
	return v1.VirtualMachineInstanceCondition{Type: t, Status: corev1.ConditionFalse, Reason: reason}
}

// What users and scripts read in the column STATUS. Where several lines apply, the order decides.
func TestPrintable(t *testing.T) {
	paused := v1.VirtualMachineInstanceCondition{Type: v1.VirtualMachineInstancePaused, Status: corev1.ConditionTrue}
	migrating := inPhase(v1.Running, paused)
	now := metav1.Now()
	migrating.Status.MigrationState = &v1.VirtualMachineInstanceMigrationState{MigrationUID: "m", StartTimestamp: &now}
	sync := v1.VirtualMachineInstanceSynchronized
	filling := Progress{Why: "importing"}
	cases := []struct {
		name string
		s    scene
		want v1.VirtualMachinePrintableStatus
	}{
		{"no VMI", scene{}, v1.VirtualMachineStatusStopped},
		{"about to start", scene{starting: true}, v1.VirtualMachineStatusStarting},
		{"deleted, still running", scene{vm: &v1.VirtualMachine{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &now}}, vmi: inPhase(v1.Running)}, v1.VirtualMachineStatusTerminating},
		{"stopping before paused", scene{vmi: inPhase(v1.Running, paused), stopping: true}, v1.VirtualMachineStatusStopping},
		{"migrating before paused", scene{vmi: migrating}, v1.VirtualMachineStatusMigrating},
		{"paused", scene{vmi: inPhase(v1.Running, paused)}, v1.VirtualMachineStatusPaused},
		{"running", scene{vmi: inPhase(v1.Running)}, v1.VirtualMachineStatusRunning},
		{"claim missing", scene{vmi: inPhase(v1.Pending, no(sync, "FailedPvcNotFound"))}, v1.VirtualMachineStatusPvcNotFound},
		{"import failed", scene{data: Progress{Failed: true}}, v1.VirtualMachineStatusDataVolumeError},
		{"no node", scene{vmi: inPhase(v1.Scheduling, no(condition.PodScheduled, "Unschedulable"))}, v1.VirtualMachineStatusUnschedulable},
		{"importing", scene{vmi: inPhase(v1.Pending), data: filling}, v1.VirtualMachineStatusProvisioning},
		{"importing, not started", scene{data: filling, starting: true}, v1.VirtualMachineStatusProvisioning},
		{"importing, halted", scene{data: filling}, v1.VirtualMachineStatusStopped},
		{"waits for binding", scene{starting: true, unbound: true}, v1.VirtualMachineStatusWaitingForVolumeBinding},
		{"waits for binding, VMI made", scene{vmi: inPhase(v1.Pending), unbound: true}, v1.VirtualMachineStatusWaitingForVolumeBinding},
		{"image missing", scene{vmi: inPhase(v1.Scheduling, no(sync, "ErrImagePull"))}, v1.VirtualMachineStatusErrImagePull},
		{"image back-off", scene{vmi: inPhase(v1.Scheduling, no(sync, "ImagePullBackOff"))}, v1.VirtualMachineStatusImagePullBackOff},
		{"pending", scene{vmi: inPhase(v1.Pending)}, v1.VirtualMachineStatusStarting},
		{"scheduled", scene{vmi: inPhase(v1.Scheduled)}, v1.VirtualMachineStatusStarting},
		{"crash loop", scene{vm: crashed(), strategy: v1.RunStrategyAlways}, v1.VirtualMachineStatusCrashLoopBackOff},
		{"crashed, manual", scene{vm: crashed(), strategy: v1.RunStrategyManual}, v1.VirtualMachineStatusStopped},
		{"crashed, running now", scene{vm: crashed(), strategy: v1.RunStrategyAlways, vmi: inPhase(v1.Running)}, v1.VirtualMachineStatusRunning},
		{"ended", scene{vmi: inPhase(v1.Succeeded)}, v1.VirtualMachineStatusStopped},
		{"ended and told to go", scene{vmi: inPhase(v1.Failed), stopping: true}, v1.VirtualMachineStatusStopped},
		{"waits for a migration", scene{strategy: v1.RunStrategyWaitAsReceiver}, v1.VirtualMachineStatusWaitingForReceiver},
		{"node unknown", scene{vmi: inPhase(v1.Unknown)}, v1.VirtualMachineStatusUnknown},
	}
	for _, c := range cases {
		if c.s.vm == nil {
			c.s.vm = &v1.VirtualMachine{}
		}
		if c.s.data.Why == "" && !c.s.data.Failed {
			c.s.data.Ready = true
		}
		if got := printable(c.s); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func crashed() *v1.VirtualMachine {
	vm := &v1.VirtualMachine{}
	vm.Status.StartFailure = &v1.VirtualMachineStartFailure{ConsecutiveFailCount: 1}
	return vm
}
