package vm

import (
	"context"

	v1 "kubevirt.io/api/core/v1"
)

// action is what a run strategy wants done about the VMI.
type action int

const (
	nothing action = iota
	// begin makes a VMI.
	begin
	// end deletes the VMI; the strategy decides afterwards whether there will be another.
	end
	// rerun queues a request to start and then deletes the VMI.
	rerun
	// flip turns Halted into Always, for a start request that came with data.
	flip
)

// situation is all that the decision depends on.
type situation struct {
	strategy v1.VirtualMachineRunStrategy
	// recorded is the strategy at the last start, as the status remembers it.
	recorded v1.VirtualMachineRunStrategy
	// vmi is one of the states below; start and stop tell which request is first in the queue.
	vmi         vmiState
	start, stop bool
}

type vmiState int

const (
	absent vmiState = iota
	alive
	succeeded
	failed
	leaving // told to go, not gone yet
)

func stateOf(vmi *v1.VirtualMachineInstance, going bool) vmiState {
	switch {
	case vmi == nil:
		return absent
	case going:
		return leaving
	case vmi.Status.Phase == v1.Succeeded:
		return succeeded
	case vmi.Status.Phase == v1.Failed:
		return failed
	default:
		return alive
	}
}

// choose is the table of run strategies; its test shows it row by row.
func choose(s situation) action {
	switch s.vmi {
	case leaving:
		return nothing
	case absent:
		return chooseAbsent(s)
	}
	final := s.vmi == succeeded || s.vmi == failed
	switch s.strategy {
	case v1.RunStrategyHalted:
		return end
	case v1.RunStrategyAlways:
		if final || s.stop {
			return end
		}
	case v1.RunStrategyRerunOnFailure:
		switch {
		case s.vmi == failed && !s.stop:
			return rerun
		case final, s.stop:
			return end
		}
	case v1.RunStrategyManual:
		// A request to start also replaces a VMI that has ended.
		if s.stop || final && s.start {
			return end
		}
	}
	return nothing
}

func chooseAbsent(s situation) action {
	switch s.strategy {
	case v1.RunStrategyAlways, v1.RunStrategyOnce:
		return begin
	case v1.RunStrategyRerunOnFailure:
		// Under this strategy a VM starts once by itself; after that only when it failed (which queues a request) or on
		// request.
		if s.start || s.recorded != v1.RunStrategyRerunOnFailure {
			return begin
		}
	case v1.RunStrategyManual:
		if s.start {
			return begin
		}
	case v1.RunStrategyHalted:
		if s.start {
			return flip
		}
	}
	return nothing
}

// decide finds out what is to be done.
func (r *Reconciler) decide(_ context.Context, p *pass) error {
	if p.vmi == nil && p.failure != nil {
		return nil // a foreign VMI has the name, or a DataVolume is missing
	}
	p.do = choose(situation{
		strategy: p.strategy, recorded: p.vm.Status.RunStrategy, vmi: stateOf(p.vmi, p.going),
		start: startQueued(p.vm), stop: stopQueued(p.vm, p.vmi),
	})
	switch p.do {
	case rerun:
		p.vm.Status.StateChangeRequests = append([]v1.VirtualMachineStateChangeRequest{{Action: v1.StartRequest}},
			p.vm.Status.StateChangeRequests...)
	case begin:
		if wait := r.backOff(p.vm); wait > 0 {
			p.do = nothing
			p.again(wait)
		}
	}
	return nil
}
