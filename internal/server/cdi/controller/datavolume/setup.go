package datavolume

import (
	"context"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"virtctl/internal/cdi/names"
	"virtctl/internal/server/cdi/controller/index"
)

// Setup starts the reconciler with the manager.
func (r *Reconciler) Setup(mgr ctrl.Manager) error {
	c, err := ctrl.NewControllerManagedBy(mgr).Named("datavolume").
		For(&cdi.DataVolume{}).
		Watches(&corev1.PersistentVolumeClaim{}, handler.EnqueueRequestsFromMapFunc(r.ofClaim)).
		Watches(&cdi.DataVolume{}, handler.EnqueueRequestsFromMapFunc(r.clonesOf(index.CloneSource))).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(r.afterUser)).
		Watches(&corev1.Event{}, handler.EnqueueRequestsFromMapFunc(r.ofRefusal)).
		Watches(&cdi.DataSource{}, handler.EnqueueRequestsFromMapFunc(r.ofDataSource)).
		Watches(&storagev1.StorageClass{}, handler.EnqueueRequestsFromMapFunc(r.waiting)).
		Watches(&cdi.StorageProfile{}, handler.EnqueueRequestsFromMapFunc(r.waiting)).
		Watches(&corev1.ResourceQuota{}, handler.EnqueueRequestsFromMapFunc(r.waiting)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: 4,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](50*time.Millisecond, 30*time.Second),
		}).
		Build(r)
	if err != nil {
		return err
	}
	r.Snapshots.Follow(c, handler.EnqueueRequestsFromMapFunc(r.ofSnapshot))
	return nil
}

// clonesOf gives the unfinished DataVolumes that clone an object.
func (r *Reconciler) clonesOf(by string) func(context.Context, client.Object) []reconcile.Request {
	return func(ctx context.Context, obj client.Object) []reconcile.Request {
		var list cdi.DataVolumeList
		key := obj.GetNamespace() + "/" + obj.GetName()
		if err := r.Client.List(ctx, &list, client.MatchingFields{by: key}); err != nil {
			return nil
		}
		return unfinished(list.Items)
	}
}

// afterUser gives the DataVolumes that wait until nobody uses their source, when a pod that used a claim has ended.
func (r *Reconciler) afterUser(ctx context.Context, obj client.Object) []reconcile.Request {
	if pod, ok := obj.(*corev1.Pod); !ok || len(index.PodClaims(pod)) == 0 {
		return nil
	}
	var list cdi.DataVolumeList
	if err := r.Client.List(ctx, &list); err != nil {
		return nil
	}
	var out []reconcile.Request
	for i := range list.Items {
		if c := find(&list.Items[i], cdi.DataVolumeBound); c != nil && c.Reason == names.EventCloneSourceInUse {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
	}
	return out
}

// ofSnapshot gives the DataVolumes that clone a snapshot, and the one it was made for.
func (r *Reconciler) ofSnapshot(ctx context.Context, obj client.Object) []reconcile.Request {
	return append(r.clonesOf(index.SnapshotSource)(ctx, obj), madeFor(obj)...)
}

// madeFor gives the DataVolume that an object was made for on the way.
func madeFor(obj client.Object) []reconcile.Request {
	if owner := metav1.GetControllerOf(obj); owner != nil && owner.Kind == "DataVolume" {
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: obj.GetNamespace(), Name: owner.Name}}}
	}
	if namespace, name, ok := strings.Cut(obj.GetAnnotations()[names.AnnEventSource], "/"); ok && obj.GetLabels()[names.LabelOwnedByUID] != "" {
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}}}
	}
	return nil
}

// ofClaim gives the DataVolume of a claim's name, and those that wait for it as their source.
func (r *Reconciler) ofClaim(ctx context.Context, obj client.Object) []reconcile.Request {
	out := append(madeFor(obj), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(obj)})
	return append(out, r.clonesOf(index.CloneSource)(ctx, obj)...)
}

func (r *Reconciler) ofDataSource(ctx context.Context, obj client.Object) []reconcile.Request {
	var list cdi.DataVolumeList
	key := obj.GetNamespace() + "/" + obj.GetName()
	if err := r.Client.List(ctx, &list, client.MatchingFields{index.DataSource: key}); err != nil {
		return nil
	}
	return unfinished(list.Items)
}

// waiting gives the DataVolumes that have no claim yet: other storage or a wider quota may change that.
func (r *Reconciler) waiting(ctx context.Context, o client.Object) []reconcile.Request {
	var list cdi.DataVolumeList
	if err := r.Client.List(ctx, &list, client.InNamespace(o.GetNamespace())); err != nil {
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
