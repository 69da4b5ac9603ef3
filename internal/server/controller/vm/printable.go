package vm

import (
	corev1 "k8s.io/api/core/v1"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/server/controller/condition"
)

// scene is all that the printable status depends on.
type scene struct {
	vm       *v1.VirtualMachine
	vmi      *v1.VirtualMachineInstance
	strategy v1.VirtualMachineRunStrategy
	// stopping: the VMI was told to go, or is about to be. starting: a VMI is about to be made.
	stopping, starting bool
	// data is the state of the VM's DataVolumes; unbound tells that a claim waits for its volume.
	data    Progress
	unbound bool
}

func (r *Reconciler) scene(p *pass) scene {
	return scene{
		vm: p.vm, vmi: p.vmi, strategy: p.strategy, data: p.data, unbound: p.data.WaitsForConsumer,
		stopping: p.going || p.do == end || p.do == rerun,
		starting: p.vmi == nil && p.failure == nil && (p.do == begin || p.waitsForData()),
	}
}

// waitsForData tells that the VM would start if its DataVolumes were ready.
func (p *pass) waitsForData() bool {
	return p.do == nothing && p.vmi == nil && !p.data.Ready && p.data.Why != "" && p.strategy != v1.RunStrategyHalted
}

// printable is what `kubectl get vm` shows. The first line that applies counts; their order is contract.
func printable(s scene) v1.VirtualMachinePrintableStatus {
	lines := []struct {
		status  v1.VirtualMachinePrintableStatus
		applies bool
	}{
		{v1.VirtualMachineStatusTerminating, s.vm.DeletionTimestamp != nil},
		{v1.VirtualMachineStatusStopping, s.present() && s.stopping},
		{v1.VirtualMachineStatusMigrating, s.migrating()},
		{v1.VirtualMachineStatusPaused, s.present() && condition.Is(s.vmi, v1.VirtualMachineInstancePaused, corev1.ConditionTrue)},
		{v1.VirtualMachineStatusRunning, s.present() && s.vmi.IsRunning()},
		{v1.VirtualMachineStatusPvcNotFound, s.synchronized("FailedPvcNotFound")},
		{v1.VirtualMachineStatusDataVolumeError, s.data.Failed},
		{v1.VirtualMachineStatusUnschedulable, s.present() && condition.Reason(s.vmi, condition.PodScheduled) == corev1.PodReasonUnschedulable},
		{v1.VirtualMachineStatusProvisioning, s.provisioning()},
		{v1.VirtualMachineStatusWaitingForVolumeBinding, s.unbound && (s.starting || s.present() && s.vmi.IsUnprocessed())},
		{v1.VirtualMachineStatusErrImagePull, s.synchronized("ErrImagePull")},
		{v1.VirtualMachineStatusImagePullBackOff, s.synchronized("ImagePullBackOff")},
		{v1.VirtualMachineStatusStarting, s.starting || s.present() && !s.vmi.IsUnknown()},
		{v1.VirtualMachineStatusCrashLoopBackOff, s.crashLoop()},
		{v1.VirtualMachineStatusWaitingForReceiver, s.vmi == nil && s.strategy == v1.RunStrategyWaitAsReceiver},
		{v1.VirtualMachineStatusStopped, s.vmi == nil || s.vmi.IsFinal()},
	}
	for _, l := range lines {
		if l.applies {
			return l.status
		}
	}
	return v1.VirtualMachineStatusUnknown
}

// present tells that there is a VMI that has not ended.
func (s scene) present() bool { return s.vmi != nil && !s.vmi.IsFinal() }

func (s scene) migrating() bool {
	if !s.present() {
		return false
	}
	m := s.vmi.Status.MigrationState
	return m != nil && m.MigrationUID != "" && m.StartTimestamp != nil && !m.Completed && !m.Failed
}

func (s scene) synchronized(reason string) bool {
	return s.present() && condition.Reason(s.vmi, v1.VirtualMachineInstanceSynchronized) == reason
}

func (s scene) provisioning() bool {
	wanted := s.starting || s.present()
	return wanted && !s.data.Ready && !s.data.WaitsForConsumer && s.data.Why != ""
}

// crashLoop: the last VMI never ran, and the strategy will try again.
func (s scene) crashLoop() bool {
	if s.present() || s.vm.Status.StartFailure == nil || s.vm.Status.StartFailure.ConsecutiveFailCount == 0 {
		return false
	}
	switch s.strategy {
	case v1.RunStrategyAlways, v1.RunStrategyRerunOnFailure, v1.RunStrategyOnce:
		return true
	}
	return false
}
