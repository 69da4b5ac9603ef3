// Package action applies one verb to any number of virtual machines, waits for the outcome and reports it. The power commands
// are instances of it.
package action

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"virtctl/internal/client"
	"virtctl/internal/commands/await"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/output"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
)

// Verb is what a command does to one machine.
type Verb struct {
	// Kind is what a bare name means.
	Kind string
	// Infinitive, as in "cannot start VM web".
	Infinitive string
	// Request is the text printed when the server has taken the request, with the kind and name filled in by Do's result.
	Request func(t client.Target) string
	// Wish is the text printed for a dry run.
	Wish func(t client.Target) string
	// Outcome is the text printed when waiting has succeeded.
	Outcome func(t client.Target) string
	// Do sends the request. It may return another target than it was given: pause turns a VM into its VMI.
	Do func(ctx context.Context, c *client.Client, t client.Target) (client.Target, error)
	// Prepare gives what --wait does; it is called before Do so that it can look at the state before. Nil: nothing to wait for.
	Prepare func(ctx context.Context, c *client.Client, t client.Target) (Wait, error)
	// Absent machines are no error.
	Absent bool
	// Object gives what -o json and -o yaml print, if that is not the machine.
	Object func(ctx context.Context, c *client.Client, t client.Target) (any, error)
	// Silent verbs request nothing, so there is nothing to say before waiting.
	Silent bool
}

// Wait waits for the outcome of a request.
type Wait func(ctx context.Context, w *await.Waiter, t client.Target) error

// Until waits for a goal.
func Until(goal await.Goal) Wait {
	return func(ctx context.Context, w *await.Waiter, t client.Target) error {
		_, err := w.For(ctx, t, goal)
		return err
	}
}

// Simply prepares to wait for a goal that does not depend on the state before.
func Simply(goal await.Goal) func(context.Context, *client.Client, client.Target) (Wait, error) {
	return func(context.Context, *client.Client, client.Target) (Wait, error) { return Until(goal), nil }
}

// Flags are the flags that every verb has.
type Flags struct {
	Selection target.Selection
	Output    output.Flag
	Wait      bool
	Timeout   time.Duration
	DryRun    bool
}

// Bind adds the flags that suit a verb whose effect can be waited for and checked beforehand.
func (o *Flags) Bind(cmd *cobra.Command) {
	o.BindWaiting(cmd)
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "Let the server check the request without carrying it out")
}

// BindWaiting adds the flags that suit a verb whose effect can be waited for and not checked beforehand.
func (o *Flags) BindWaiting(cmd *cobra.Command) {
	o.BindImmediate(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&o.Wait, "wait", false, "Wait until it has happened, and say why if it does not")
	flags.DurationVar(&o.Timeout, "timeout", 5*time.Minute, "With --wait: how long to wait at most; 0 waits for ever")
}

// BindImmediate adds the flags that suit every verb.
func (o *Flags) BindImmediate(cmd *cobra.Command) {
	o.Selection.Bind(cmd.Flags())
	o.Output.Bind(cmd, "", output.Name, output.JSON, output.YAML)
}

// Check reports a wrong combination of flags.
func (o *Flags) Check(args []string) error {
	if o.Wait && o.DryRun {
		return problem.Usagef("--wait and --dry-run exclude each other: a dry run changes nothing that could be waited for")
	}
	if o.Timeout < 0 {
		return problem.Usagef("--timeout must not be negative")
	}
	if err := o.Output.Check(); err != nil {
		return err
	}
	return o.Selection.Check(args)
}

// Run does the verb to every chosen machine. One failure does not keep the others from being tried.
func Run(ctx context.Context, f *factory.Factory, verb Verb, flags *Flags, args []string) error {
	if err := flags.Check(args); err != nil {
		return err
	}
	targets, err := flags.Selection.Resolve(ctx, f, verb.Kind, args)
	if err != nil {
		return err
	}
	c, err := f.Client()
	if err != nil {
		return err
	}
	if flags.DryRun && flags.Output.IsTable() {
		f.Streams.Print("Dry Run execution\n")
	}
	r := &runner{factory: f, client: c, verb: verb, flags: flags}
	started := r.request(ctx, targets)
	if flags.Wait {
		r.wait(ctx, started)
	}
	return problem.Join(f.Streams, f.Program, r.failures)
}

type runner struct {
	factory  *factory.Factory
	client   *client.Client
	verb     Verb
	flags    *Flags
	failures []error
}

// requested is a machine whose request has been taken.
type requested struct {
	target client.Target
	wait   Wait
}

// request sends the requests in the order given.
func (r *runner) request(ctx context.Context, targets []client.Target) []requested {
	var taken []requested
	for _, t := range targets {
		one, err := r.requestOne(ctx, t)
		if r.verb.Absent && apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			r.fail(t, target.Explain(ctx, r.client, t, err))
			continue
		}
		taken = append(taken, one)
		if !r.flags.Wait {
			r.report(ctx, one.target, r.verb.Request)
		} else if r.flags.Output.IsTable() && !r.verb.Silent {
			r.factory.Streams.Say("%s, waiting\n", r.verb.Request(one.target))
		}
	}
	return taken
}

func (r *runner) requestOne(ctx context.Context, t client.Target) (requested, error) {
	var wait Wait
	if r.flags.Wait {
		prepared, err := r.verb.Prepare(ctx, r.client, t)
		if err != nil {
			return requested{}, err
		}
		wait = prepared
	}
	done, err := r.verb.Do(ctx, r.client, t)
	return requested{target: done, wait: wait}, err
}

func (r *runner) wait(ctx context.Context, started []requested) {
	if r.flags.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.flags.Timeout)
		defer cancel()
	}
	waiter := &await.Waiter{Client: r.client}
	if r.factory.Streams.ErrTTY {
		waiter.Report = func(t client.Target, seen string) { r.factory.Streams.Say("%s: %s\n", t.Name, seen) }
	}
	var all sync.WaitGroup
	var printing sync.Mutex
	for _, one := range started {
		all.Go(func() {
			err := one.wait(ctx, waiter, one.target)
			printing.Lock()
			defer printing.Unlock()
			if err != nil {
				r.failures = append(r.failures, err)
				return
			}
			r.report(ctx, one.target, r.verb.Outcome)
		})
	}
	all.Wait()
}

// report prints a machine's line, or the object if -o asks for it.
func (r *runner) report(ctx context.Context, t client.Target, text func(client.Target) string) {
	if r.flags.Output.IsTable() {
		if r.flags.DryRun {
			text = r.verb.Wish
		}
		r.factory.Streams.Print("%s\n", text(t))
		return
	}
	err := r.object(ctx, t)
	// What was waited for may have been the object's end.
	if err == nil || r.flags.Wait && apierrors.IsNotFound(err) {
		return
	}
	r.fail(t, err)
}

func (r *runner) object(ctx context.Context, t client.Target) error {
	if r.verb.Object != nil && r.flags.Output.Format != output.Name {
		object, err := r.verb.Object(ctx, r.client, t)
		if err != nil {
			return err
		}
		return r.flags.Output.Value(r.factory.Streams, object)
	}
	if t.Resource == target.VMI {
		if r.flags.Output.Format == output.Name {
			return r.flags.Output.Object(r.factory.Streams, client.VirtualMachineInstance(), t.Name, nil)
		}
		vmi, err := r.client.VMIs(t.Namespace).Get(ctx, t.Name)
		if err != nil {
			return err
		}
		return r.flags.Output.Object(r.factory.Streams, client.VirtualMachineInstance(), t.Name, vmi)
	}
	if r.flags.Output.Format == output.Name {
		return r.flags.Output.Object(r.factory.Streams, client.VirtualMachine(), t.Name, nil)
	}
	vm, err := r.client.VMs(t.Namespace).Get(ctx, t.Name)
	if err != nil {
		return err
	}
	return r.flags.Output.Object(r.factory.Streams, client.VirtualMachine(), t.Name, vm)
}

func (r *runner) fail(t client.Target, err error) {
	r.failures = append(r.failures, fmt.Errorf("cannot %s %s %s: %w", r.verb.Infinitive, target.Word(t), t.Name, err))
}
