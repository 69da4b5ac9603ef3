package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/await"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
)

// drainage is a node that is being emptied.
type drainage struct {
	factory *factory.Factory
	client  *client.Client
	opts    *Options
	report  *Report
	began   time.Time

	mu     sync.Mutex
	phases map[types.UID]kubevirtv1.VirtualMachineInstanceMigrationPhase
	done   chan struct{}
	closed bool
}

func newDrainage(f *factory.Factory, c *client.Client, opts *Options, report *Report) *drainage {
	return &drainage{
		factory: f, client: c, opts: opts, report: report, began: time.Now(), done: make(chan struct{}),
		phases: map[types.UID]kubevirtv1.VirtualMachineInstanceMigrationPhase{},
	}
}

func (d *drainage) say(m *Machine, text string) { d.factory.Streams.Say("%s: %s\n", m.key(), text) }

// run evicts the machines and follows them until none is left that can leave.
func (d *drainage) run(ctx context.Context) error {
	for _, m := range d.report.Machines {
		if err := d.evict(ctx, m); err != nil {
			return err
		}
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer stop(context.Canceled)
	follow := func(fn func() error) {
		watching.Go(func() {
			if err := fn(); err != nil && ctx.Err() == nil {
				stop(err)
			}
		})
	}
	follow(func() error { return d.client.Migrations("").Follow(ctx, client.ListOptions{}, d.migration) })
	follow(func() error { return d.client.VMIs("").Follow(ctx, client.ListOptions{}, d.machine) })
	select {
	case <-d.done:
	case <-ctx.Done():
	}
	if left := d.left(); len(left) > 0 {
		return d.stuck(ctx, left)
	}
	return nil
}

// migration follows what moves the machines.
func (d *drainage) migration(e client.Event[kubevirtv1.VirtualMachineInstanceMigration]) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.Object == nil || e.Type == watch.Deleted {
		return false, nil
	}
	m, one := e.Object, d.find(e.Object.Namespace, e.Object.Spec.VMIName)
	if one == nil || one.Outcome != "" || e.Initial && m.IsFinal() || d.phases[m.UID] == m.Status.Phase {
		return false, nil
	}
	d.phases[m.UID] = m.Status.Phase
	one.Migration = m.Name
	switch m.Status.Phase {
	case kubevirtv1.MigrationFailed:
		one.Failure = await.EndedBecause(m)
		d.say(one, "migration "+m.Name+" failed, it will be tried again: "+one.Failure)
	case kubevirtv1.MigrationRunning:
		one.Failure = ""
		d.say(one, "is moving to "+m.Status.MigrationState.TargetNode)
	case kubevirtv1.MigrationScheduling:
		d.say(one, "gets a pod on another node")
	}
	return false, nil
}

// machine notes who has left.
func (d *drainage) machine(e client.Event[kubevirtv1.VirtualMachineInstance]) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.Type == watch.Bookmark {
		d.check()
		return false, nil
	}
	m := d.find(e.Object.Namespace, e.Object.Name)
	if m == nil || m.Outcome != "" {
		return false, nil
	}
	switch vmi := e.Object; {
	case e.Type == watch.Deleted || vmi.IsFinal() || vmi.UID != m.uid:
		d.gone(m, "shut down", "")
	case vmi.Status.NodeName != d.report.Node && vmi.Status.NodeName != "":
		d.gone(m, "moved", vmi.Status.NodeName)
	}
	d.check()
	return false, nil
}

func (d *drainage) gone(m *Machine, outcome, to string) {
	m.Outcome, m.To, m.Failure = outcome, to, ""
	m.Seconds = float64(time.Since(d.began).Milliseconds()) / 1000
	if to != "" {
		outcome += " to " + to
	}
	d.say(m, fmt.Sprintf("%s after %.1fs", outcome, m.Seconds))
}

// check ends the wait when nobody is left who can leave.
func (d *drainage) check() {
	waits := slices.ContainsFunc(d.report.Machines, func(m *Machine) bool { return m.Outcome == "" && m.Effect != Stays })
	if !waits && !d.closed {
		d.closed = true
		close(d.done)
	}
}

func (d *drainage) find(namespace, name string) *Machine {
	for _, m := range d.report.Machines {
		if m.Namespace == namespace && m.Name == name {
			return m
		}
	}
	return nil
}

func (d *drainage) left() []*Machine {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(d.report.Machines), func(m *Machine) bool { return m.Outcome != "" })
}

func (d *drainage) stuck(ctx context.Context, left []*Machine) error {
	var why []string
	timedOut := false
	for _, m := range left {
		reason := m.Failure
		for _, o := range m.Obstacles {
			reason = o.Message + "; " + o.Cure
			break
		}
		if m.Effect != Stays {
			timedOut = true
		}
		if reason == "" {
			reason = "it has not left yet"
		}
		why = append(why, m.key()+": "+reason)
	}
	text := fmt.Sprintf("node %s is not empty: %s", d.report.Node, strings.Join(why, "; "))
	if cause := context.Cause(ctx); timedOut && cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", text, cause)
	}
	if timedOut {
		return problem.New(problem.Timeout, "%s; wait longer with --timeout, or see \"virtctl get migrations -A\"", text)
	}
	return problem.New(problem.Hopeless, "%s", text)
}

func (d *drainage) summary() {
	counts := map[string]int{}
	for _, m := range d.report.Machines {
		counts[m.Outcome]++
	}
	text := fmt.Sprintf("node %s: %d moved", d.report.Node, counts["moved"])
	if n := counts["shut down"]; n > 0 {
		text += fmt.Sprintf(", %d shut down", n)
	}
	if n := counts[""]; n > 0 {
		text += fmt.Sprintf(", %d still there", n)
	}
	d.factory.Streams.Print("%s in %.1fs\n", text, time.Since(d.began).Seconds())
}
