package vm

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Limits of the work queue, as for VMIs.
const (
	workers    = 10
	firstRetry = 100 * time.Millisecond
	lastRetry  = 2 * time.Minute
)

// Setup adds the reconciler to the manager. data brings DataVolumes' events.
func (r *Reconciler) Setup(mgr manager.Manager, data func(controller.Controller, handler.EventHandler)) error {
	c, err := builder.ControllerManagedBy(mgr).
		Named("virtualmachine").
		For(&v1.VirtualMachine{}).
		Watches(&v1.VirtualMachineInstance{}, handler.EnqueueRequestsFromMapFunc(ownerOf)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: workers,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry),
		}).
		Build(r)
	if err != nil {
		return fmt.Errorf("set up the VM controller: %w", err)
	}
	data(c, handler.EnqueueRequestForOwner(mgr.GetScheme(), mgr.GetRESTMapper(), &v1.VirtualMachine{}, handler.OnlyControllerOwner()))
	return nil
}

// ownerOf is the VM that a VMI belongs to, or that may adopt it: it has the same name.
func ownerOf(_ context.Context, vmi client.Object) []reconcile.Request {
	if owner := metav1.GetControllerOf(vmi); owner != nil && owner.Kind != v1.VirtualMachineGroupVersionKind.Kind {
		return nil
	}
	return []reconcile.Request{{NamespacedName: client.ObjectKeyFromObject(vmi)}}
}
