package vm

import (
	"testing"

	v1 "kubevirt.io/api/core/v1"
)

// The table of run strategies (contract). Columns: no VMI, no VMI but a request to start, VMI alive, VMI alive and a request to
// stop it, VMI succeeded, VMI failed.
func TestChoose(t *testing.T) {
	columns := []struct {
		name string
		set  func(*situation)
	}{
		{"absent", func(*situation) {}},
		{"absent, start", func(s *situation) { s.start = true }},
		{"alive", func(s *situation) { s.vmi = alive }},
		{"alive, stop", func(s *situation) { s.vmi, s.stop = alive, true }},
		{"succeeded", func(s *situation) { s.vmi = succeeded }},
		{"failed", func(s *situation) { s.vmi = failed }},
		{"leaving", func(s *situation) { s.vmi = leaving }},
	}
	rows := []struct {
		strategy, recorded v1.VirtualMachineRunStrategy
		want               [7]action
	}{
		{v1.RunStrategyAlways, v1.RunStrategyAlways, [7]action{begin, begin, nothing, end, end, end, nothing}},
		{v1.RunStrategyRerunOnFailure, "", [7]action{begin, begin, nothing, end, end, rerun, nothing}},
		{v1.RunStrategyRerunOnFailure, v1.RunStrategyHalted, [7]action{begin, begin, nothing, end, end, rerun, nothing}},
		{v1.RunStrategyRerunOnFailure, v1.RunStrategyRerunOnFailure, [7]action{nothing, begin, nothing, end, end, rerun, nothing}},
		{v1.RunStrategyManual, v1.RunStrategyManual, [7]action{nothing, begin, nothing, end, nothing, nothing, nothing}},
		{v1.RunStrategyHalted, v1.RunStrategyHalted, [7]action{nothing, flip, end, end, end, end, nothing}},
		{v1.RunStrategyOnce, v1.RunStrategyOnce, [7]action{begin, begin, nothing, nothing, nothing, nothing, nothing}},
		{v1.RunStrategyWaitAsReceiver, "", [7]action{nothing, nothing, nothing, nothing, nothing, nothing, nothing}},
	}
	for _, row := range rows {
		for i, column := range columns {
			s := situation{strategy: row.strategy, recorded: row.recorded}
			column.set(&s)
			if got := choose(s); got != row.want[i] {
				t.Errorf("%s (recorded %q), %s: got action %d, want %d", row.strategy, row.recorded, column.name, got, row.want[i])
			}
		}
	}
	for _, vmi := range []vmiState{succeeded, failed} {
		if got := choose(situation{strategy: v1.RunStrategyManual, vmi: vmi, stop: true}); got != end {
			t.Errorf("Manual, ended VMI and a request to stop it: %d", got)
		}
		if got := choose(situation{strategy: v1.RunStrategyManual, vmi: vmi, start: true}); got != end {
			t.Errorf("Manual, ended VMI and a request to start: %d", got)
		}
	}
	if got := choose(situation{strategy: v1.RunStrategyRerunOnFailure, vmi: failed, stop: true}); got != end {
		t.Errorf("RerunOnFailure, a failed VMI that a user stops must not come back: %d", got)
	}
}

func TestDelay(t *testing.T) {
	for failures, want := range map[int]float64{1: 10, 2: 40, 3: 90, 5: 250, 6: 300, 1000: 300} {
		if got := delayAfter(failures, 0).Seconds(); got != want {
			t.Errorf("after %d failures: %v s", failures, got)
		}
	}
	if got := delayAfter(1, 0.999).Seconds(); got <= 10 || got > 15 {
		t.Errorf("with jitter: %v s", got)
	}
	if got := delayAfter(5, 0.999).Seconds(); got > 300 {
		t.Errorf("more than the most: %v s", got)
	}
}
