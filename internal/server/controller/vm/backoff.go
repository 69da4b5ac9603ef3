package vm

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
)

// A VM that fails before it ran is started again after 10 s, 40 s, 90 s ... up to 5 minutes, each time up to half as long
// again so that VMs which failed together do not start together.
const (
	backOffUnit = 10 * time.Second
	backOffMost = 300 * time.Second
)

func delayAfter(failures int, jitter float64) time.Duration {
	n := min(max(failures, 1), 100)
	d := min(backOffUnit*time.Duration(n*n), backOffMost)
	return min(d+time.Duration(float64(d)/2*jitter), backOffMost)
}

// countFailures notes a VMI that ended without ever having run, and forgets when one runs.
func (r *Reconciler) countFailures(_ context.Context, p *pass) error {
	vmi, s := p.vmi, &p.vm.Status
	if p.strategy == v1.RunStrategyHalted {
		s.StartFailure = nil // who stopped it wants no further start
		return nil
	}
	if vmi == nil {
		return nil
	}
	if vmi.IsRunning() {
		s.StartFailure = nil
		return nil
	}
	if !vmi.IsFinal() {
		return nil
	}
	if everRan(vmi) {
		s.StartFailure = nil
		return nil
	}
	old := s.StartFailure
	if old != nil && old.LastFailedVMIUID == vmi.UID {
		return nil
	}
	count := 1
	if old != nil {
		count = old.ConsecutiveFailCount + 1
	}
	jitter := 0.0
	if r.Jitter != nil {
		jitter = r.Jitter()
	}
	retry := metav1.NewTime(r.Now().Add(delayAfter(count, jitter)).Truncate(time.Second))
	s.StartFailure = &v1.VirtualMachineStartFailure{ConsecutiveFailCount: count, LastFailedVMIUID: vmi.UID, RetryAfterTimestamp: &retry}
	return nil
}

func everRan(vmi *v1.VirtualMachineInstance) bool {
	for _, t := range vmi.Status.PhaseTransitionTimestamps {
		if t.Phase == v1.Running {
			return true
		}
	}
	return false
}

// backOff is how long the next start has to wait.
func (r *Reconciler) backOff(vm *v1.VirtualMachine) time.Duration {
	f := vm.Status.StartFailure
	if f == nil || f.RetryAfterTimestamp == nil {
		return 0
	}
	return f.RetryAfterTimestamp.Sub(r.Now())
}
