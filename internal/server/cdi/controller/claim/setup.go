package claim

import (
	"context"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
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
	return ctrl.NewControllerManagedBy(mgr).Named("claim").
		For(&corev1.PersistentVolumeClaim{}).
		Watches(&corev1.PersistentVolumeClaim{}, handler.EnqueueRequestsFromMapFunc(r.cloneTargets)).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(r.ofPod)).
		Owns(&corev1.Service{}).
		WatchesRawSource(r.Ear.Source()).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: 4,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](50*time.Millisecond, 30*time.Second),
		}).
		Complete(r)
}

// cloneTargets gives the claims that wait for this one to be read.
func (r *Reconciler) cloneTargets(ctx context.Context, obj client.Object) []reconcile.Request {
	var list corev1.PersistentVolumeClaimList
	key := obj.GetNamespace() + "/" + obj.GetName()
	if err := r.Client.List(ctx, &list, client.MatchingFields{index.CloneSource: key}); err != nil {
		return nil
	}
	var out []reconcile.Request
	for i := range list.Items {
		if !finished(&list.Items[i]) {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
	}
	return out
}

// ofPod gives the claims a pod matters to: the one it works for, and those it uses, whose workers wait for its end.
func (r *Reconciler) ofPod(ctx context.Context, obj client.Object) []reconcile.Request {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil
	}
	var out []reconcile.Request
	add := func(namespace, name string) {
		out = append(out, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}})
	}
	if owner := metav1.GetControllerOf(pod); owner != nil && owner.Kind == "PersistentVolumeClaim" {
		add(pod.Namespace, owner.Name)
		return out
	}
	if namespace, name, ok := strings.Cut(pod.Annotations[names.AnnCloneOf], "/"); ok {
		add(namespace, name)
	}
	for _, claim := range index.PodClaims(pod) {
		add(pod.Namespace, claim)
		used := &corev1.PersistentVolumeClaim{}
		used.Namespace, used.Name = pod.Namespace, claim
		out = append(out, r.cloneTargets(ctx, used)...)
	}
	return out
}
