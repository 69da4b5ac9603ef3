package vm

import (
	"context"

	v1 "kubevirt.io/api/core/v1"
)

// takeRequests drops requests that are fulfilled or have lost their object. Only the first one counts.
func (r *Reconciler) takeRequests(_ context.Context, p *pass) error {
	requests := p.vm.Status.StateChangeRequests
	for len(requests) > 0 && fulfilled(&requests[0], p.vmi) {
		requests = requests[1:]
	}
	if len(requests) == 0 {
		requests = nil
	}
	p.vm.Status.StateChangeRequests = requests
	return nil
}

func fulfilled(request *v1.VirtualMachineStateChangeRequest, vmi *v1.VirtualMachineInstance) bool {
	switch request.Action {
	case v1.StopRequest:
		return vmi == nil || request.UID != nil && *request.UID != vmi.UID
	case v1.StartRequest:
		return vmi != nil && !vmi.IsFinal()
	}
	return true // one we do not know would block the queue for ever
}

func startQueued(vm *v1.VirtualMachine) bool {
	q := vm.Status.StateChangeRequests
	return len(q) > 0 && q[0].Action == v1.StartRequest
}

func stopQueued(vm *v1.VirtualMachine, vmi *v1.VirtualMachineInstance) bool {
	q := vm.Status.StateChangeRequests
	return vmi != nil && len(q) > 0 && q[0].Action == v1.StopRequest && (q[0].UID == nil || *q[0].UID == vmi.UID)
}

// pausedStart tells whether the request to start asks for a guest that waits before its first instruction.
func pausedStart(vm *v1.VirtualMachine) bool {
	return startQueued(vm) && vm.Status.StateChangeRequests[0].Data[v1.StartRequestDataPausedKey] == v1.StartRequestDataPausedTrue
}
