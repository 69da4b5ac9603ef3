package datavolume

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/client-go/util/workqueue"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"virtctl/internal/server/cdi/controller/index"
)

// Setup starts the reconciler with the manager.
func (r *Reconciler) Setup(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).Named("datavolume").
		For(&cdi.DataVolume{}).
		Watches(&corev1.PersistentVolumeClaim{}, handler.EnqueueRequestsFromMapFunc(r.ofClaim)).
		Watches(&cdi.DataSource{}, handler.EnqueueRequestsFromMapFunc(r.ofDataSource)).
		Watches(&storagev1.StorageClass{}, handler.EnqueueRequestsFromMapFunc(r.waiting)).
		Watches(&cdi.StorageProfile{}, handler.EnqueueRequestsFromMapFunc(r.waiting)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: 4,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](50*time.Millisecond, 30*time.Second),
		}).
		Complete(r)
}

// ofClaim gives the DataVolume of a claim's name, and those that wait for it as their source.
func (r *Reconciler) ofClaim(ctx context.Context, obj client.Object) []reconcile.Request {
	out := []reconcile.Request{{NamespacedName: client.ObjectKeyFromObject(obj)}}
	var list cdi.DataVolumeList
	key := obj.GetNamespace() + "/" + obj.GetName()
	if err := r.Client.List(ctx, &list, client.MatchingFields{index.CloneSource: key}); err != nil {
		return out
	}
	return append(out, unfinished(list.Items)...)
}

func (r *Reconciler) ofDataSource(ctx context.Context, obj client.Object) []reconcile.Request {
	var list cdi.DataVolumeList
	key := obj.GetNamespace() + "/" + obj.GetName()
	if err := r.Client.List(ctx, &list, client.MatchingFields{index.DataSource: key}); err != nil {
		return nil
	}
	return unfinished(list.Items)
}

// waiting gives the DataVolumes that have no claim yet: other storage may change that.
func (r *Reconciler) waiting(ctx context.Context, _ client.Object) []reconcile.Request {
	var list cdi.DataVolumeList
	if err := r.Client.List(ctx, &list); err != nil {
		return nil
	}
	var out []reconcile.Request
	for i := range list.Items {
		if dv := &list.Items[i]; dv.Status.ClaimName == "" && dv.Status.Phase != cdi.Succeeded {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(dv)})
		}
	}
	return out
}

func unfinished(dvs []cdi.DataVolume) []reconcile.Request {
	var out []reconcile.Request
	for i := range dvs {
		if p := dvs[i].Status.Phase; p != cdi.Succeeded && p != cdi.Failed {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&dvs[i])})
		}
	}
	return out
}
