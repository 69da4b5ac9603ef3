// Package await waits for a virtual machine to reach a state. It watches; it never polls.
package await

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/reason"
	"virtctl/internal/commands/target"
)

// State is what is known about a machine at one moment; both are nil when neither exists.
type State struct {
	VM  *kubevirtv1.VirtualMachine
	VMI *kubevirtv1.VirtualMachineInstance
}

// Verdict is what a goal says about a state.
type Verdict int

// The verdicts.
const (
	Pending Verdict = iota
	Reached
	Hopeless
)

// Goal judges a state. The text says in a few words what is seen, for progress and errors.
type Goal struct {
	// Name is what is waited for, as in "waiting for web to be running".
	Name  string
	Judge func(State) (Verdict, string)
}

// Waiter waits for goals.
type Waiter struct {
	Client *client.Client
	// Report is told each time the text of the verdict changes; it may be nil.
	Report func(target client.Target, seen string)
}

// For waits until the goal is reached, can no longer be reached, or the context ends.
func (w *Waiter) For(ctx context.Context, t client.Target, goal Goal) (State, error) {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	changes := make(chan client.Change[State])
	go client.Gather(watching, w.Client.VMs(t.Namespace), t.Name, changes, func(s *State, vm *kubevirtv1.VirtualMachine) { s.VM = vm })
	go client.Gather(watching, w.Client.VMIs(t.Namespace), t.Name, changes, func(s *State, vmi *kubevirtv1.VirtualMachineInstance) { s.VMI = vmi })
	var state State
	seen, missing := "", 2
	for {
		var next client.Change[State]
		select {
		case <-ctx.Done():
			return state, w.timedOut(ctx, t, goal, state, missing == 0)
		case next = <-changes:
		}
		if next.Err != nil {
			if ctx.Err() != nil {
				return state, w.timedOut(ctx, t, goal, state, missing == 0)
			}
			return state, fmt.Errorf("watch %s %s: %w", target.Word(t), t.Name, next.Err)
		}
		next.Apply(&state)
		if next.Synced {
			missing--
		}
		if missing > 0 {
			continue
		}
		verdict, text := goal.Judge(state)
		switch verdict {
		case Reached:
			return state, nil
		case Hopeless:
			return state, w.hopeless(ctx, t, goal, state, text)
		}
		if text != seen && w.Report != nil {
			w.Report(t, text)
		}
		seen = text
	}
}

// patience is how long finding the reason for a failure may take.
const patience = 5 * time.Second

// timedOut tells what was seen last, if anything was seen.
func (w *Waiter) timedOut(ctx context.Context, t client.Target, goal Goal, state State, known bool) error {
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return context.Canceled
	}
	if !known {
		return problem.New(problem.Timeout, "the API server did not tell in time what %s %s is like; wait longer with --timeout", target.Word(t), t.Name)
	}
	_, text := goal.Judge(state)
	return problem.New(problem.Timeout, "%s %s is not %s in time: %s; wait longer with --timeout, or see \"virtctl describe %s\"",
		target.Word(t), t.Name, goal.Name, w.because(ctx, state, text), target.Argument(t))
}

func (w *Waiter) hopeless(ctx context.Context, t client.Target, goal Goal, state State, text string) error {
	if state.VM == nil && state.VMI == nil {
		return problem.New(problem.NotFound, "there is no virtual machine %q in namespace %q; see \"virtctl get vms -n %s\", or choose another namespace with -n",
			t.Name, t.Namespace, t.Namespace)
	}
	return problem.New(problem.Hopeless, "%s %s cannot become %s: %s; see \"virtctl describe %s\"",
		target.Word(t), t.Name, goal.Name, w.because(ctx, state, text), target.Argument(t))
}

// because joins what is seen with the reasons the cluster gives for it.
func (w *Waiter) because(ctx context.Context, state State, text string) string {
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if why := reason.Gather(asking, w.Client, state.VM, state.VMI); len(why) > 0 {
		return text + ": " + strings.Join(why, "; ")
	}
	return text
}

// CurrentRun is the UID of the machine's present run, or "" when it does not run. A run that is over counts as present: what
// is waited for is another one.
func CurrentRun(ctx context.Context, c *client.Client, t client.Target) (types.UID, error) {
	vmi, err := c.VMIs(t.Namespace).Get(ctx, t.Name)
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return vmi.UID, nil
}
