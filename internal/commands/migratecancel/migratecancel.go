// Package migratecancel is the command that cancels live migrations.
package migratecancel

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/action"
	"virtctl/internal/commands/await"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
)

// Options are what the command line says.
type Options struct {
	action.Flags
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "migrate-cancel (VM... | -l SELECTOR | --all)",
		Short: "Cancel the live migration of virtual machines",
		Long: `Cancel the live migration of virtual machines.

The machine goes on running on the node where it is.`,
		Example: `  # Cancel a migration and wait until the machine is in its old place for good
  {{ProgramName}} migrate-cancel web --wait`,
		ValidArgsFunction: target.Complete(f, target.VM),
		RunE: func(cmd *cobra.Command, args []string) error {
			return Run(cmd.Context(), f, opts, args)
		},
	}
	opts.Bind(cmd)
	return cmd
}

// Run cancels the migrations.
func Run(ctx context.Context, f *factory.Factory, opts *Options, args []string) error {
	return action.Run(ctx, f, action.Verb{
		Kind: target.VM, Infinitive: "cancel the migration of",
		Request: action.Scheduled("migrate-cancel"), Wish: action.WouldBe("migrate-cancel"),
		Outcome: action.Is("no longer migrating"),
		Do: func(ctx context.Context, c *client.Client, t client.Target) (client.Target, error) {
			migration, err := unfinished(ctx, c, t)
			if err != nil {
				return t, err
			}
			remove := metav1.DeleteOptions{}
			if opts.DryRun {
				remove.DryRun = []string{metav1.DryRunAll}
			}
			return t, c.Migrations(t.Namespace).Delete(ctx, migration.Name, remove)
		},
		Prepare: func(ctx context.Context, c *client.Client, t client.Target) (action.Wait, error) {
			migration, err := unfinished(ctx, c, t)
			if err != nil {
				return nil, err
			}
			return func(ctx context.Context, _ *await.Waiter, t client.Target) error {
				return gone(ctx, c, t.Namespace, migration.Name, migration.UID)
			}, nil
		},
	}, &opts.Flags, args)
}

func unfinished(ctx context.Context, c *client.Client, t client.Target) (*kubevirtv1.VirtualMachineInstanceMigration, error) {
	list, err := c.Migrations(t.Namespace).List(ctx, client.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	for i := range list.Items {
		if m := &list.Items[i]; m.Spec.VMIName == t.Name && !m.IsFinal() {
			return m, nil
		}
	}
	return nil, problem.New(problem.NotFound, "Found no migration to cancel for %s", t.Name)
}

// gone waits until a migration is over, in whichever way.
func gone(ctx context.Context, c *client.Client, namespace, name string, uid types.UID) error {
	found := false
	err := c.Migrations(namespace).Follow(ctx, client.Named(name), func(e client.Event[kubevirtv1.VirtualMachineInstanceMigration]) (bool, error) {
		switch {
		case e.Type == watch.Bookmark:
			return !found, nil
		case e.Object.UID != uid, e.Type == watch.Deleted, e.Object.IsFinal():
			return true, nil
		}
		found = true
		return false, nil
	})
	if err != nil && ctx.Err() != nil {
		return problem.New(problem.Timeout, "migration %s is not over in time; see \"virtctl get migrations\"", name)
	}
	return err
}
