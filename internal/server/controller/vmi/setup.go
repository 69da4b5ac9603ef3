package vmi

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/server/controller/index"
)

// Limits of the work queue: ten at once, and a failing VMI is tried again after 100 ms to 2 minutes.
const (
	workers    = 10
	firstRetry = 100 * time.Millisecond
	lastRetry  = 2 * time.Minute
)

// Setup adds the reconciler to the manager. mountFailed brings pods whose volumes failed; data brings DataVolumes' events.
func (r *Reconciler) Setup(mgr manager.Manager, mountFailed <-chan event.GenericEvent, data func(controller.Controller, handler.EventHandler)) error {
	config := make(chan event.GenericEvent, 1)
	r.Config.OnChange(func(clusterconfig.Config) {
		select {
		case config <- event.GenericEvent{Object: &v1.VirtualMachineInstance{}}:
		default: // one is waiting already
		}
	})
	owner := handler.EnqueueRequestForOwner(mgr.GetScheme(), mgr.GetRESTMapper(), &v1.VirtualMachineInstance{}, handler.OnlyControllerOwner())
	b := builder.ControllerManagedBy(mgr).
		Named("virtualmachineinstance").
		For(&v1.VirtualMachineInstance{}).
		Watches(&corev1.Pod{}, owner).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(r.userOfAttachment)).
		Watches(&corev1.PersistentVolumeClaim{}, handler.EnqueueRequestsFromMapFunc(r.usersOfClaim), builder.WithPredicates(claimChanges())).
		WatchesRawSource(source.Channel(config, handler.EnqueueRequestsFromMapFunc(r.unstarted))).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: workers,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry),
		})
	if mountFailed != nil {
		b = b.WatchesRawSource(source.Channel(mountFailed, owner))
	}
	c, err := b.Build(r)
	if err != nil {
		return fmt.Errorf("set up the VMI controller: %w", err)
	}
	// A DataVolume's claim has its name.
	data(c, handler.EnqueueRequestsFromMapFunc(r.usersOfClaim))
	return nil
}

// claimChanges leaves out what does not concern VMs: most updates of claims are of their annotations.
func claimChanges() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*corev1.PersistentVolumeClaim)
		after, ok2 := e.ObjectNew.(*corev1.PersistentVolumeClaim)
		if !ok || !ok2 {
			return false
		}
		return before.UID != after.UID || before.Status.Phase != after.Status.Phase ||
			!before.Status.Capacity.Storage().Equal(*after.Status.Capacity.Storage())
	}}
}

func (r *Reconciler) usersOfClaim(ctx context.Context, claim client.Object) []reconcile.Request {
	var list v1.VirtualMachineInstanceList
	if err := r.Client.List(ctx, &list, client.InNamespace(claim.GetNamespace()), client.MatchingFields{index.Claim: claim.GetName()}); err != nil {
		return nil // the cache answers, unless it is being shut down
	}
	return requests(list.Items, func(*v1.VirtualMachineInstance) bool { return true })
}

// unstarted are the VMIs that a change of the cluster's configuration may unblock.
func (r *Reconciler) unstarted(ctx context.Context, _ client.Object) []reconcile.Request {
	var list v1.VirtualMachineInstanceList
	if err := r.Client.List(ctx, &list); err != nil {
		return nil
	}
	return requests(list.Items, func(vmi *v1.VirtualMachineInstance) bool { return vmi.IsUnprocessed() })
}

func requests(vmis []v1.VirtualMachineInstance, which func(*v1.VirtualMachineInstance) bool) []reconcile.Request {
	var out []reconcile.Request
	for i := range vmis {
		if which(&vmis[i]) {
			out = append(out, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: vmis[i].Namespace, Name: vmis[i].Name}})
		}
	}
	return out
}
