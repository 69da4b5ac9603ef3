package datavolume

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
	"virtctl/internal/server/cdi/controller/claim"
	"virtctl/internal/server/cdi/controller/class"
)

// plan is how a clone is made.
type plan struct {
	way cdi.CDICloneStrategy
	// fallback is why it is not made the way that suits the storage best; message says it to people.
	fallback, message string
	// expandTo is the size the volume gets when it is there: first it is as large as its source. Zero: it stays so.
	expandTo resource.Quantity
	// class is for snapshots that are made on the way.
	snapshotClass string
}

func copying(reason, format string, args ...any) plan {
	return plan{way: cdi.CloneStrategyHostAssisted, fallback: reason, message: fmt.Sprintf(format, args...)}
}

// chosen is the plan that a claim was made with.
func chosen(c *corev1.PersistentVolumeClaim) cdi.CDICloneStrategy {
	return cdi.CDICloneStrategy(c.Annotations[names.AnnCloneType])
}

// strategy plans the clone of a claim into one of this specification.
func (r *Reconciler) strategy(ctx context.Context, p *pass, spec *corev1.PersistentVolumeClaimSpec) (plan, error) {
	target, err := class.Find(ctx, r.Client, spec.StorageClassName, "")
	if err != nil {
		return plan{}, err
	}
	source, err := class.Find(ctx, r.Client, p.source.claim.Spec.StorageClassName, "")
	if err != nil {
		return plan{}, err
	}
	if target == nil || source == nil {
		return plan{way: cdi.CloneStrategyHostAssisted}, nil
	}
	profile := &cdi.StorageProfile{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: target.Name}, profile); client.IgnoreNotFound(err) != nil {
		return plan{}, fmt.Errorf("read StorageProfile %s: %w", target.Name, err)
	}
	wish := cdi.CloneStrategyHostAssisted
	if profile.Status.CloneStrategy != nil {
		wish = *profile.Status.CloneStrategy
	}
	if p.settings.CDI.Spec.CloneStrategyOverride != nil {
		wish = *p.settings.CDI.Spec.CloneStrategyOverride
	}
	if wish == cdi.CloneStrategyHostAssisted {
		return plan{way: wish}, nil
	}
	if copied, is := refused(p.dv); is {
		return copied, nil
	}
	if refused, err := r.unfit(ctx, p, spec, source, target); err != nil || refused.way != "" {
		return refused, err
	}
	out := plan{way: wish}
	if wish == cdi.CloneStrategySnapshot {
		if profile.Status.SnapshotClass == nil || !r.Snapshots.Available() {
			return copying(names.EventNoSnapshotClass, "No VolumeSnapshotClass found for provisioner %s: falling back to host-assisted clone", target.Provisioner), nil
		}
		out.snapshotClass = *profile.Status.SnapshotClass
	}
	return out, nil
}

// unfit gives the reason why storage cannot make the clone by itself.
func (r *Reconciler) unfit(ctx context.Context, p *pass, spec *corev1.PersistentVolumeClaimSpec, source, target *storagev1.StorageClass) (plan, error) {
	driver := &storagev1.CSIDriver{}
	err := r.Client.Get(ctx, client.ObjectKey{Name: target.Provisioner}, driver)
	switch {
	case apierrors.IsNotFound(err):
		return copying("NoPopulator", "In tree storage class does not support snapshot/clone"), nil
	case err != nil:
		return plan{}, fmt.Errorf("read CSIDriver %s: %w", target.Provisioner, err)
	case source.Provisioner != target.Provisioner:
		return copying(names.EventProvisioners, "Provisioner differs between source (%s) and target (%s): falling back to host-assisted clone",
			source.Provisioner, target.Provisioner), nil
	case !sameMode(p.source.claim.Spec.VolumeMode, spec.VolumeMode):
		return copying(names.EventVolumeModes, "The volume modes of source and target are incompatible: falling back to host-assisted clone"), nil
	case p.larger(spec) && (target.AllowVolumeExpansion == nil || !*target.AllowVolumeExpansion):
		return copying(names.EventNoExpansion, "Volume expansion is not allowed by storage class %s: falling back to host-assisted clone", target.Name), nil
	}
	namespace, _ := p.source.origin()
	late, err := claim.BindsLate(ctx, r.Client, &target.Name)
	if err != nil {
		return plan{}, err
	}
	if late && namespace != p.dv.Namespace {
		// A volume that is made for its first consumer cannot be made in one namespace for a consumer in another.
		return copying("WaitForFirstConsumer", "Storage class %s binds late and the source is in another namespace: falling back to host-assisted clone", target.Name), nil
	}
	return plan{}, nil
}

// larger tells that the target asks for more than the source.
func (p *pass) larger(spec *corev1.PersistentVolumeClaimSpec) bool {
	want, have := spec.Resources.Requests[corev1.ResourceStorage], p.source.least()
	return want.Cmp(have) > 0
}

// smart tells clones that the storage makes.
func smart(way cdi.CDICloneStrategy) bool {
	return way == cdi.CloneStrategyCsiClone || way == cdi.CloneStrategySnapshot
}

// temporary are the names of what is made on the way, all after the DataVolume's UID.
func temporary(prefix string, dv *cdi.DataVolume) string { return prefix + "-" + string(dv.UID) }
