// Package delete is the command that deletes virtual machines.
package delete

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/action"
	"virtctl/internal/commands/await"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
	"virtctl/internal/commands/volume"
)

// Options are what the command line says.
type Options struct {
	action.Flags
	GracePeriod    int64
	KeepVolumes    bool
	IgnoreNotFound bool
}

const unset = -1

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "delete ([vm|vmi|dv|pvc] NAME... | -l SELECTOR | --all)",
		Short: "Delete virtual machines and disks",
		Long: `Delete virtual machines and disks.

A running guest is shut down first, within its termination grace period. Volumes that were made with the machine (its data volume
templates) are deleted with it; --keep-volumes makes them independent before. Claims that the machine merely uses are never touched. A disk (dv NAME) goes with
its claim, once no running machine uses it.`,
		Example: `  # Delete a machine and wait until nothing is left of it
  {{ProgramName}} delete web --wait

  # Delete the machine, keep its disks
  {{ProgramName}} delete web --keep-volumes

  # Delete a disk, finished or not
  {{ProgramName}} delete dv fedora --wait

  # Do not wait for the guest to shut down
  {{ProgramName}} delete web --grace-period 0`,
		ValidArgsFunction: target.Complete(f, target.VM),
		RunE: func(cmd *cobra.Command, args []string) error {
			return Run(cmd.Context(), f, opts, args)
		},
	}
	opts.Bind(cmd)
	flags := cmd.Flags()
	flags.Int64Var(&opts.GracePeriod, "grace-period", unset, "Seconds the guest gets to shut down; default the machine's own")
	flags.BoolVar(&opts.KeepVolumes, "keep-volumes", false, "Keep the volumes that were made with the machine")
	flags.BoolVar(&opts.IgnoreNotFound, "ignore-not-found", false, "Do not mind when the machine does not exist")
	return cmd
}

// Run deletes the machines.
func Run(ctx context.Context, f *factory.Factory, opts *Options, args []string) error {
	if opts.GracePeriod < unset {
		return problem.Usagef("--grace-period must not be negative")
	}
	if kind, disks, ok := volume.Named(args); ok {
		return runDisks(ctx, f, opts, kind, disks)
	}
	return action.Run(ctx, f, action.Verb{
		Kind: target.VM, Infinitive: "delete",
		Request: func(t client.Target) string { return kindOf(t).Name(t.Name) + " deleted" },
		Wish: func(t client.Target) string {
			return kindOf(t).Name(t.Name) + " would be deleted (dry run: nothing was changed)"
		},
		Outcome: func(t client.Target) string { return kindOf(t).Name(t.Name) + " is gone" },
		Do:      opts.remove,
		Prepare: action.Simply(await.Deleted()),
		Absent:  opts.IgnoreNotFound,
	}, &opts.Flags, args)
}

func kindOf(t client.Target) client.Kind {
	if t.Resource == target.VMI {
		return client.VirtualMachineInstance()
	}
	return client.VirtualMachine()
}

// remove asks for the deletion. The finalizers keep the object until the guest is off.
func (o *Options) remove(ctx context.Context, c *client.Client, t client.Target) (client.Target, error) {
	foreground := metav1.DeletePropagationForeground
	options := metav1.DeleteOptions{PropagationPolicy: &foreground}
	if o.DryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	if t.Resource == target.VMI {
		return t, c.VMIs(t.Namespace).Delete(ctx, t.Name, o.withGrace(options))
	}
	if o.KeepVolumes {
		if err := release(ctx, c, t, o.DryRun); err != nil {
			return t, fmt.Errorf("keep its volumes: %w", err)
		}
	}
	if o.GracePeriod != unset && !o.DryRun {
		if err := o.hurry(ctx, c, t); err != nil {
			return t, err
		}
	}
	return t, c.VMs(t.Namespace).Delete(ctx, t.Name, options)
}

func (o *Options) withGrace(options metav1.DeleteOptions) metav1.DeleteOptions {
	if o.GracePeriod != unset {
		options.GracePeriodSeconds = &o.GracePeriod
	}
	return options
}
