package action

import (
	"context"

	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/await"
	"virtctl/internal/commands/problem"
)

// Back prepares to wait until a guest that is rebooted is back.
func Back(ctx context.Context, c *client.Client, t client.Target) (Wait, error) {
	vmi, err := c.VMIs(t.Namespace).Get(ctx, t.Name)
	if err != nil {
		return nil, err
	}
	return Until(await.Rebooted(await.AgentSince(vmi))), nil
}

// MustRun is the dry run of requests that the server cannot check without carrying them out.
func MustRun(ctx context.Context, c *client.Client, t client.Target) error {
	vmi, err := c.VMIs(t.Namespace).Get(ctx, t.Name)
	if err != nil {
		return err
	}
	if vmi.Status.Phase != kubevirtv1.Running {
		return problem.New(problem.Conflict, "VMI is not running (phase %s)", vmi.Status.Phase)
	}
	return nil
}
