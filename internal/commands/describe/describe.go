// Package describe is the command that tells all about a machine, and why it is not what it should be.
package describe

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/reason"
	"virtctl/internal/commands/target"
	"virtctl/internal/commands/volume"
)

// Options are what the command line says.
type Options struct {
	Selection target.Selection
	Events    int
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "describe ([vm|vmi|dv|pvc] NAME... | -l SELECTOR | --all)",
		Short: "Tell all about virtual machines and disks, and why they are not ready",
		Long: `Tell all about virtual machines: their state and the reasons for it, conditions, volumes, network interfaces, last
migrations and events. Of a disk: what fills it, the claim below it, the pod at work, conditions and events.`,
		Example: `  # Why does web not start?
  {{ProgramName}} describe vm web

  # Why is the disk not filled?
  {{ProgramName}} describe dv fedora`,
		ValidArgsFunction: target.Complete(f, target.VM),
		RunE: func(cmd *cobra.Command, args []string) error {
			return Run(cmd.Context(), f, opts, args)
		},
	}
	opts.Selection.Bind(cmd.Flags())
	cmd.Flags().IntVar(&opts.Events, "events", 15, "How many of the last events to show")
	return cmd
}

// Run describes the machines.
func Run(ctx context.Context, f *factory.Factory, opts *Options, args []string) error {
	if opts.Events < 0 {
		return problem.Usagef("--events must not be negative")
	}
	if _, disks, ok := volume.Named(args); ok {
		return runDisks(ctx, f, opts, disks)
	}
	targets, err := opts.Selection.Resolve(ctx, f, target.VM, args)
	if err != nil {
		return err
	}
	c, err := f.Client()
	if err != nil {
		return err
	}
	var failed []error
	for i, t := range targets {
		if i > 0 {
			f.Streams.Print("\n")
		}
		m, err := load(ctx, c, t)
		if err != nil {
			failed = append(failed, fmt.Errorf("cannot describe %s %s: %w", target.Word(t), t.Name, target.Explain(ctx, c, t, err)))
			continue
		}
		p := &page{streams: f.Streams, machine: m, now: time.Now(), events: opts.Events}
		if err := p.print(); err != nil {
			failed = append(failed, err)
		}
	}
	return problem.Join(f.Streams, f.Program, failed)
}

// machine is all that is known about one machine.
type machine struct {
	vm         *kubevirtv1.VirtualMachine
	vmi        *kubevirtv1.VirtualMachineInstance
	pods       []corev1.Pod
	migrations []kubevirtv1.VirtualMachineInstanceMigration
	events     []corev1.Event
	why        []string
	// unread says what could not be read, for lack of permission or otherwise.
	unread []error
}

func load(ctx context.Context, c *client.Client, t client.Target) (*machine, error) {
	m := &machine{}
	vm, vmErr := c.VMs(t.Namespace).Get(ctx, t.Name)
	if vmErr == nil {
		m.vm = vm
	} else if t.Resource == target.VM || !apierrors.IsNotFound(vmErr) {
		return nil, vmErr
	}
	vmi, err := c.VMIs(t.Namespace).Get(ctx, t.Name)
	switch {
	case err == nil:
		m.vmi = vmi
	case !apierrors.IsNotFound(err), t.Resource == target.VMI:
		return nil, err
	}
	m.more(ctx, c, t)
	return m, nil
}

// more reads what is good to know; who may not read it gets the rest.
func (m *machine) more(ctx context.Context, c *client.Client, t client.Target) {
	keep := func(err error) {
		if err != nil {
			m.unread = append(m.unread, err)
		}
	}
	var err error
	m.pods, err = reason.LauncherPods(ctx, c, t.Namespace, t.Name)
	keep(err)
	if err == nil {
		m.events, err = reason.Events(ctx, c, t.Namespace, t.Name)
		keep(err)
	}
	migrations, err := c.Migrations(t.Namespace).List(ctx, client.ListOptions{})
	keep(err)
	if err == nil {
		for _, one := range migrations.Items {
			if one.Spec.VMIName == t.Name {
				m.migrations = append(m.migrations, one)
			}
		}
	}
	if !m.healthy() {
		m.why = reason.Gather(ctx, c, m.vm, m.vmi)
	}
}

// healthy machines need no explanation: they are stopped on purpose, or ready.
func (m *machine) healthy() bool {
	if m.vmi == nil {
		return m.vm != nil && m.vm.Status.PrintableStatus == kubevirtv1.VirtualMachineStatusStopped && m.vm.Status.StartFailure == nil
	}
	for _, c := range m.vmi.Status.Conditions {
		if c.Type == kubevirtv1.VirtualMachineInstanceReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
