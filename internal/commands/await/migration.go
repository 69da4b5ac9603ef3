package await

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/reason"
)

// KnownMigrations gives the UIDs of the machine's migrations so far.
func KnownMigrations(ctx context.Context, c *client.Client, t client.Target) (map[types.UID]bool, error) {
	list, err := c.Migrations(t.Namespace).List(ctx, client.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	known := map[types.UID]bool{}
	for _, m := range list.Items {
		if m.Spec.VMIName == t.Name {
			known[m.UID] = true
		}
	}
	return known, nil
}

// Migrated waits until a migration that is not among the known ones has succeeded.
func (w *Waiter) Migrated(ctx context.Context, t client.Target, known map[types.UID]bool) error {
	var last *kubevirtv1.VirtualMachineInstanceMigration
	seen := ""
	err := w.Client.Migrations(t.Namespace).Follow(ctx, client.ListOptions{}, func(e client.Event[kubevirtv1.VirtualMachineInstanceMigration]) (bool, error) {
		if e.Object == nil || e.Object.Spec.VMIName != t.Name || known[e.Object.UID] {
			return false, nil
		}
		last = e.Object
		if e.Type == watch.Deleted {
			return false, problem.New(problem.Hopeless, "migration %s of VM %s was cancelled", last.Name, t.Name)
		}
		switch last.Status.Phase {
		case kubevirtv1.MigrationSucceeded:
			return true, nil
		case kubevirtv1.MigrationFailed:
			return false, problem.New(problem.Hopeless, "migration %s of VM %s failed: %s", last.Name, t.Name, w.whyNotMigrated(ctx, t, last))
		}
		if phase := string(last.Status.Phase); phase != seen && w.Report != nil {
			seen = phase
			w.Report(t, "migration "+phase)
		}
		return false, nil
	})
	if err == nil || ctx.Err() == nil {
		return err
	}
	return w.timedOut(ctx, t, Goal{Name: "migrated", Judge: func(State) (Verdict, string) {
		if last == nil {
			return Pending, "no migration has begun"
		}
		return Pending, fmt.Sprintf("migration %s is %s", last.Name, last.Status.Phase)
	}}, State{})
}

// whyNotMigrated asks the migration first, the machine's conditions and warnings then.
func (w *Waiter) whyNotMigrated(ctx context.Context, t client.Target, m *kubevirtv1.VirtualMachineInstanceMigration) string {
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if m.Status.MigrationState != nil && m.Status.MigrationState.FailureReason != "" {
		return m.Status.MigrationState.FailureReason
	}
	vmi, err := w.Client.VMIs(t.Namespace).Get(asking, t.Name)
	if err != nil {
		return "no reason is known"
	}
	if s := vmi.Status.MigrationState; s != nil && s.MigrationUID == m.UID && s.FailureReason != "" {
		return s.FailureReason
	}
	why := reason.Gather(asking, w.Client, nil, vmi)
	if len(why) == 0 {
		return "no reason is known"
	}
	return strings.Join(why, "; ")
}
