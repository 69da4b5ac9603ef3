package operator

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime/schema"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"virtctl/internal/install/components"
	"virtctl/internal/server/operand"
)

func (r *Reconciler) installed() operand.Set {
	return operand.Set{Client: r.client, Deleter: r.applier, Label: client.MatchingLabels{components.ManagedByLabel: components.ManagedBy}}
}

// remove takes the platform away, every VM first.
func (r *Reconciler) remove(ctx context.Context, kv *v1.KubeVirt) error {
	if !controllerutil.ContainsFinalizer(kv, Finalizer) {
		return nil
	}
	kinds := append([]schema.GroupVersionKind{
		{Group: "apps", Version: "v1", Kind: "DaemonSet"},
		{Group: "apps", Version: "v1", Kind: "Deployment"},
		{Version: "v1", Kind: "Secret"},
		{Version: "v1", Kind: "ConfigMap"},
	}, watched...)
	if err := r.installed().Remove(ctx, kinds); err != nil {
		return err
	}
	controllerutil.RemoveFinalizer(kv, Finalizer)
	kv.Status.Phase = v1.KubeVirtPhaseDeleted
	return nil
}

// prune deletes what an earlier version or configuration installed and this one does not want.
func (r *Reconciler) prune(ctx context.Context, opts components.Options) error {
	return r.installed().Prune(ctx, watched, append(static(opts), registrations(opts)...))
}
