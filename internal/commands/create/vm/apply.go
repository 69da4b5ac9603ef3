package vm

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/await"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/output"
	"virtctl/internal/commands/problem"
)

// manager owns the fields that create vm has set.
const manager = "virtctl"

func (a Apply) wanted() bool { return a.Apply || a.Start || a.Wait }

func (a Apply) check(o *Options) error {
	switch {
	case a.DryRun && (a.Start || a.Wait):
		return problem.Usagef("--dry-run changes nothing that could be started or waited for: use it with --apply only")
	case a.DryRun && !a.Apply:
		return problem.Usagef("--dry-run needs --apply: without it nothing is sent to a cluster anyway")
	case a.Timeout < 0:
		return problem.Usagef("--timeout must not be negative")
	case a.Wait && !a.Start && !o.startsItself():
		return problem.Usagef("--wait needs --start when the run strategy is %s: the machine would not start by itself", o.RunStrategy)
	}
	return nil
}

// startsItself tells whether the run strategy starts a new machine without being asked.
func (o *Options) startsItself() bool {
	switch kubevirtv1.VirtualMachineRunStrategy(o.RunStrategy) {
	case kubevirtv1.RunStrategyManual, kubevirtv1.RunStrategyHalted:
		return false
	}
	return true
}

// apply stores the machine, starts it and waits for it, as far as the flags ask for.
func (o *Options) apply(ctx context.Context, f *factory.Factory, namespace string, vm *kubevirtv1.VirtualMachine) error {
	c, err := f.Client()
	if err != nil {
		return err
	}
	vm.Namespace = namespace
	stored, result, err := o.store(ctx, c, vm)
	if err != nil {
		return fmt.Errorf("cannot apply VM %s: %w", vm.Name, err)
	}
	told := o.Output.IsTable()
	if told {
		f.Streams.Print("%s %s\n", client.VirtualMachine().Name(vm.Name), result)
	}
	if o.Apply.DryRun {
		if told {
			return nil
		}
		return o.Output.Object(f.Streams, client.VirtualMachine(), vm.Name, stored)
	}
	if err := o.start(ctx, f, c, stored); err != nil {
		return err
	}
	if told {
		return nil
	}
	if o.Output.Format != output.Name {
		if stored, err = c.VMs(namespace).Get(ctx, vm.Name); err != nil {
			return err
		}
	}
	return o.Output.Object(f.Streams, client.VirtualMachine(), vm.Name, stored)
}

// store applies the machine and says what that did to it.
func (o *Options) store(ctx context.Context, c *client.Client, vm *kubevirtv1.VirtualMachine) (*kubevirtv1.VirtualMachine, string, error) {
	vms := c.VMs(vm.Namespace)
	before, err := vms.Get(ctx, vm.Name)
	if err != nil && (!apierrors.IsNotFound(err) || problem.IsRouteMissing(err)) {
		return nil, "", err
	}
	existed := err == nil
	plain, err := output.Plain(vm)
	if err != nil {
		return nil, "", err
	}
	stored, err := vms.Apply(ctx, vm.Name, plain, client.ApplyOptions{Manager: manager, DryRun: o.Apply.DryRun})
	if err != nil {
		return nil, "", err
	}
	result := "created"
	switch {
	case existed && before.Generation == stored.Generation:
		result = "unchanged"
	case existed:
		result = "configured"
	}
	if o.Apply.DryRun {
		result += " (server dry run: nothing was changed)"
	}
	return stored, result, nil
}

func (o *Options) start(ctx context.Context, f *factory.Factory, c *client.Client, vm *kubevirtv1.VirtualMachine) error {
	if o.Apply.Start && !o.startsItself() {
		err := c.Start(ctx, vm.Namespace, vm.Name, &kubevirtv1.StartOptions{})
		if err != nil {
			return fmt.Errorf("cannot start VM %s: %w", vm.Name, err)
		}
	}
	if !o.Apply.Wait {
		return nil
	}
	if o.Apply.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.Apply.Timeout)
		defer cancel()
	}
	waiter := &await.Waiter{Client: c}
	if f.Streams.ErrTTY {
		waiter.Report = func(t client.Target, seen string) { f.Streams.Say("%s: %s\n", t.Name, seen) }
	}
	if _, err := waiter.For(ctx, client.VM(vm.Namespace, vm.Name), await.Running()); err != nil {
		return err
	}
	if o.Output.IsTable() {
		f.Streams.Print("VM %s is running\n", vm.Name)
	}
	return nil
}
