package migrate

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"virtctl/internal/client"
	"virtctl/internal/commands/problem"
)

// possible refuses a destination that no migration can ever reach: it would wait for its end. What the user may not read is left to
// the scheduler.
func possible(ctx context.Context, c *client.Client, t client.Target, node string) error {
	if node == "" {
		return nil
	}
	if vmi, err := c.VMIs(t.Namespace).Get(ctx, t.Name); err == nil && vmi.Status.NodeName == node {
		return problem.New(problem.Conflict, "%s runs on node %s already: name another node, or leave --to-node out", t.Name, node)
	}
	if _, err := c.Nodes().Get(ctx, node); apierrors.IsNotFound(err) {
		return problem.New(problem.NotFound, "there is no node %s to migrate %s to; kubectl get nodes lists them", node, t.Name)
	}
	return nil
}
