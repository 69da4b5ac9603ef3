package target

import (
	"context"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"virtctl/internal/client"
	"virtctl/internal/commands/problem"
)

// Explain says more about a "not found" or "not running" than the server can: whether the machine does not exist at all, or exists
// and does not run, and what to do about it.
func Explain(ctx context.Context, c *client.Client, t client.Target, err error) error {
	stopped := apierrors.IsBadRequest(err) && strings.Contains(err.Error(), "not running")
	if !stopped && (!apierrors.IsNotFound(err) || problem.IsRouteMissing(err)) {
		return err
	}
	vm, lookErr := c.VMs(t.Namespace).Get(ctx, t.Name)
	switch {
	case apierrors.IsNotFound(lookErr) && !problem.IsRouteMissing(lookErr):
		return problem.New(problem.NotFound, "there is no virtual machine %q in namespace %q; see \"virtctl get vms -n %s\", or choose another namespace with -n",
			t.Name, t.Namespace, t.Namespace)
	case lookErr != nil:
		return err
	}
	status := vm.Status.PrintableStatus
	if status == "" {
		status = "Stopped"
	}
	return problem.New(problem.Conflict, "it is not running (status %s); start it with \"virtctl start %s --wait\"", status, Argument(t))
}
