package importcron

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"virtctl/internal/cdi/names"
)

// Setup starts the reconciler with the manager.
func (r *Reconciler) Setup(mgr ctrl.Manager) error {
	labelled := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		if name := o.GetLabels()[names.LabelImportCron]; name != "" {
			return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: name}}}
		}
		return nil
	})
	c, err := ctrl.NewControllerManagedBy(mgr).Named("dataimportcron").
		For(&cdi.DataImportCron{}).
		Watches(&cdi.DataVolume{}, labelled).
		Watches(&cdi.DataSource{}, labelled).
		Watches(&corev1.PersistentVolumeClaim{}, labelled).
		Watches(&cdi.StorageProfile{}, handler.EnqueueRequestsFromMapFunc(r.all)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: 2,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](100*time.Millisecond, time.Minute),
		}).
		Build(r)
	if err != nil {
		return err
	}
	r.Snapshots.Follow(c, labelled)
	return nil
}

func (r *Reconciler) all(ctx context.Context, _ client.Object) []reconcile.Request {
	var list cdi.DataImportCronList
	if err := r.Client.List(ctx, &list); err != nil {
		return nil
	}
	var out []reconcile.Request
	for i := range list.Items {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return out
}
