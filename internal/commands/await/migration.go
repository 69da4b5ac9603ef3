package await

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/reason"
	"virtctl/internal/migrationprogress"
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

// Moving is told how a migration goes on; progress is nil until the node that the guest leaves tells of it.
type Moving func(m *kubevirtv1.VirtualMachineInstanceMigration, progress *migrationprogress.Progress)

// Migrated waits until a migration that is not among the known ones has succeeded, and gives it as it was last seen.
func (w *Waiter) Migrated(ctx context.Context, t client.Target, known map[types.UID]bool, told Moving) (*kubevirtv1.VirtualMachineInstanceMigration, error) {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	j := &journey{target: t, known: known, told: told}
	if told != nil {
		go j.watchProgress(watching, w.Client)
	}
	err := w.Client.Migrations(t.Namespace).Follow(ctx, client.ListOptions{}, func(e client.Event[kubevirtv1.VirtualMachineInstanceMigration]) (bool, error) {
		if e.Object == nil || e.Object.Spec.VMIName != t.Name || known[e.Object.UID] {
			return false, nil
		}
		last := j.see(e.Object)
		if e.Type == watch.Deleted {
			return false, problem.New(problem.Hopeless, "migration %s of VM %s was cancelled", last.Name, t.Name)
		}
		switch last.Status.Phase {
		case kubevirtv1.MigrationSucceeded:
			return true, nil
		case kubevirtv1.MigrationFailed:
			return false, problem.New(problem.Hopeless, "migration %s of VM %s failed: %s", last.Name, t.Name, w.whyNotMigrated(ctx, t, last))
		}
		return false, nil
	})
	last := j.last()
	if err == nil || ctx.Err() == nil {
		return last, err
	}
	return last, w.timedOut(ctx, t, Goal{Name: "migrated", Judge: func(State) (Verdict, string) {
		if last == nil {
			return Pending, "no migration has begun"
		}
		return Pending, fmt.Sprintf("migration %s is %s", last.Name, last.Status.Phase)
	}}, State{}, true)
}

// journey is what is known of one migration, from two watches.
type journey struct {
	target client.Target
	known  map[types.UID]bool
	told   Moving

	mu        sync.Mutex
	migration *kubevirtv1.VirtualMachineInstanceMigration
	progress  *migrationprogress.Progress
}

func (j *journey) see(m *kubevirtv1.VirtualMachineInstanceMigration) *kubevirtv1.VirtualMachineInstanceMigration {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.migration = m
	if j.told != nil {
		j.told(m, j.progress)
	}
	return m
}

func (j *journey) last() *kubevirtv1.VirtualMachineInstanceMigration {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.migration
}

// watchProgress follows what the guest's node tells. Without it the phases are still seen.
func (j *journey) watchProgress(ctx context.Context, c *client.Client) {
	_ = c.VMIs(j.target.Namespace).Follow(ctx, client.Named(j.target.Name), func(e client.Event[kubevirtv1.VirtualMachineInstance]) (bool, error) {
		j.mu.Lock()
		defer j.mu.Unlock()
		if e.Object == nil || e.Object.Status.MigrationState == nil || j.migration == nil {
			return false, nil
		}
		p := migrationprogress.Of(e.Object.Annotations, j.migration.UID)
		if p != nil && (j.progress == nil || !p.At.Equal(j.progress.At)) {
			j.progress = p
			j.told(j.migration, p)
		}
		return false, nil
	})
}

// whyNotMigrated asks the migration first, the machine's conditions and warnings then.
func (w *Waiter) whyNotMigrated(ctx context.Context, t client.Target, m *kubevirtv1.VirtualMachineInstanceMigration) string {
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if why := EndedBecause(m); why != "" {
		return why
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

// EndedBecause is why a migration failed, as far as it says so itself.
func EndedBecause(m *kubevirtv1.VirtualMachineInstanceMigration) string {
	if s := m.Status.MigrationState; s != nil && s.FailureReason != "" {
		return s.FailureReason
	}
	for _, c := range m.Status.Conditions {
		if c.Reason == "FailedMigration" {
			return c.Message
		}
	}
	return ""
}
