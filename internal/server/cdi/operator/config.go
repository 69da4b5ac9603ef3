package operator

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
)

// config keeps the CDIConfig what the CDI resource says. Once the resource has taken over what a CDIConfig said before it, which
// an annotation records, the CDIConfig is read-only: changes to its specification are taken back. Its status belongs to
// cdi-deployment.
func (r *Reconciler) config(ctx context.Context, cdi *cdiv1.CDI) error {
	if err := r.watchConfig(); err != nil {
		return err
	}
	config := &cdiv1.CDIConfig{ObjectMeta: metav1.ObjectMeta{Name: names.CDIConfig}}
	// Not from the cache: of a kind that was defined a moment ago it may take minutes to fill, and everything else would wait for it.
	if err := r.direct.Get(ctx, client.ObjectKeyFromObject(config), config); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read the CDIConfig: %w", err)
	}
	missing := config.UID == ""
	takeOver(cdi, config)
	wanted := config.DeepCopy()
	wanted.Spec = cdiv1.CDIConfigSpec{}
	if cdi.Spec.Config != nil {
		wanted.Spec = *cdi.Spec.Config.DeepCopy()
	}
	if wanted.Labels == nil {
		wanted.Labels = map[string]string{}
	}
	wanted.Labels[names.LabelManagedBy], wanted.Labels[names.LabelComponent] = managedBy, ""
	wanted.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(cdi, cdiv1.CDIGroupVersionKind)}
	var err error
	switch {
	case missing:
		err = r.client.Create(ctx, wanted)
	case equality.Semantic.DeepEqual(config, wanted):
		return nil
	default:
		err = r.client.Update(ctx, wanted)
	}
	if err != nil {
		return fmt.Errorf("write the CDIConfig: %w", err)
	}
	return nil
}

// takeOver makes the CDI resource the authority: what a CDIConfig from before said is copied into it, unless it says something
// itself.
func takeOver(cdi *cdiv1.CDI, config *cdiv1.CDIConfig) {
	if _, done := cdi.Annotations[names.AnnConfigAuthority]; done {
		return
	}
	if cdi.Spec.Config == nil && !equality.Semantic.DeepEqual(config.Spec, cdiv1.CDIConfigSpec{}) {
		cdi.Spec.Config = config.Spec.DeepCopy()
	}
	if cdi.Annotations == nil {
		cdi.Annotations = map[string]string{}
	}
	cdi.Annotations[names.AnnConfigAuthority] = ""
}
