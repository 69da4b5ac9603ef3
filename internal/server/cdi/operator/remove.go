package operator

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime/schema"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"virtctl/internal/cdi/names"
	components "virtctl/internal/install/components/cdi"
	"virtctl/internal/server/operand"
)

func (r *Reconciler) installed() operand.Set {
	return operand.Set{Client: r.client, Deleter: r.applier, Label: client.MatchingLabels{names.LabelManagedBy: managedBy}}
}

// remove takes CDI away, every DataVolume first.
func (r *Reconciler) remove(ctx context.Context, cdi *cdiv1.CDI) error {
	if !controllerutil.ContainsFinalizer(cdi, names.FinalizerOperator) {
		return nil
	}
	kinds := append([]schema.GroupVersionKind{
		{Group: "apps", Version: "v1", Kind: "Deployment"}, {Version: "v1", Kind: "Secret"}, {Version: "v1", Kind: "ConfigMap"},
	}, r.kinds()...)
	if err := r.installed().Remove(ctx, kinds); err != nil {
		return err
	}
	controllerutil.RemoveFinalizer(cdi, names.FinalizerOperator)
	return nil
}

// prune deletes what an earlier version or configuration installed and this one does not want.
func (r *Reconciler) prune(ctx context.Context, opts components.Options) error {
	return r.installed().Prune(ctx, r.kinds(), append(components.Static(opts), components.Registrations(opts)...))
}
