package datavolume

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
	"virtctl/internal/server/cdi/controller/claim"
	"virtctl/internal/server/cdi/controller/class"
	"virtctl/internal/server/cdi/controller/clonetoken"
	"virtctl/internal/server/cdi/controller/snapshot"
)

// findSnapshot looks for the snapshot to clone.
func (r *Reconciler) findSnapshot(ctx context.Context, p *pass) error {
	namespace, name := p.source.origin()
	waiting := p.claim == nil && !prePopulated(p.dv)
	if !r.Snapshots.Available() {
		if waiting {
			p.refuse(names.EventErrUnableToClone, "this cluster has no VolumeSnapshots; install a snapshot controller and a CSI driver that can make them")
		}
		return nil
	}
	s := snapshot.New()
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, s)
	if apierrors.IsNotFound(err) {
		if waiting {
			p.refuse(names.EventNotAuthorized, "The source snapshot %s doesn't exist", p.seen(namespace, name))
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read source snapshot %s/%s: %w", namespace, name, err)
	}
	p.source.snapshot, p.source.restoreSize = s, snapshot.Size(s)
	if size, err := resource.ParseQuantity(s.GetAnnotations()[names.AnnAdvisedRestoreSize]); err == nil && size.Cmp(p.source.restoreSize) > 0 {
		p.source.restoreSize = size
	}
	if len(p.source.labels) == 0 {
		p.source.labels = s.GetLabels()
	}
	if ready, _ := snapshot.Ready(s); !ready && waiting {
		p.refuse("SnapshotNotReady", "The source snapshot %s/%s is not ready", namespace, name)
	}
	return nil
}

// snapshotStrategy plans a clone of a snapshot: restored by the storage that made it, or copied out of a claim restored for that.
func (r *Reconciler) snapshotStrategy(ctx context.Context, p *pass, spec *corev1.PersistentVolumeClaimSpec) (plan, error) {
	target, err := class.Find(ctx, r.Client, spec.StorageClassName, "")
	if err != nil || target == nil {
		return copying(names.EventNoProvisionerMatch, "The target has no storage class"), err
	}
	driver, mode, err := snapshot.Maker(ctx, r.Live, p.source.snapshot)
	if err != nil {
		return plan{}, err
	}
	namespace, _ := p.source.origin()
	late, err := claim.BindsLate(ctx, r.Client, &target.Name)
	if err != nil {
		return plan{}, err
	}
	switch {
	case driver != target.Provisioner:
		return copying(names.EventNoProvisionerMatch, "The storage class provisioner %s does not match the snapshot's driver %s: falling back to host-assisted clone",
			target.Provisioner, driver), nil
	case mode != "" && !sameMode(&mode, spec.VolumeMode):
		return copying(names.EventVolumeModes, "The volume modes of source and target are incompatible: falling back to host-assisted clone"), nil
	case p.larger(spec) && (target.AllowVolumeExpansion == nil || !*target.AllowVolumeExpansion):
		return copying(names.EventNoExpansion, "Volume expansion is not allowed by storage class %s: falling back to host-assisted clone", target.Name), nil
	case late && namespace != p.dv.Namespace:
		return copying("WaitForFirstConsumer", "Storage class %s binds late and the source is in another namespace: falling back to host-assisted clone", target.Name), nil
	}
	return plan{way: cdi.CloneStrategySnapshot}, nil
}

// restored makes a claim from the snapshot beside it, and gives a claim that is copied from that one.
func (r *Reconciler) restored(ctx context.Context, p *pass, spec *corev1.PersistentVolumeClaimSpec, how plan) (*corev1.PersistentVolumeClaim, error) {
	if ok, err := r.allowed(ctx, p); err != nil || !ok {
		return nil, err
	}
	namespace, name := p.source.origin()
	if namespace != p.dv.Namespace {
		if err := r.holdOn(ctx, p); err != nil {
			return nil, err
		}
	}
	key := client.ObjectKey{Namespace: namespace, Name: temporary(names.TempSourcePrefix, p.dv)}
	temp := &corev1.PersistentVolumeClaim{}
	err := r.Client.Get(ctx, key, temp)
	if apierrors.IsNotFound(err) {
		if temp, err = r.restore(ctx, p, key, name); err != nil || temp == nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read claim %s: %w", key, err)
	}
	permit, err := r.Tokens.Grant(ctx, clonetoken.Source{Namespace: key.Namespace, Name: key.Name},
		clonetoken.Target{Namespace: p.dv.Namespace, Name: p.dv.Name, UID: p.dv.UID})
	if err != nil {
		return nil, err
	}
	if want := spec.Resources.Requests[corev1.ResourceStorage]; want.Cmp(p.source.restoreSize) < 0 {
		spec.Resources.Requests[corev1.ResourceStorage] = p.source.restoreSize
	}
	made := r.newClaim(p, spec)
	made.Annotations[names.AnnCloneRequest] = key.Namespace + "/" + key.Name
	made.Annotations[names.AnnCloneType] = string(cdi.CloneStrategyHostAssisted)
	made.Annotations[names.AnnExtendedCloneToken] = permit
	made.Annotations[names.AnnCloneFallback] = how.message
	delete(made.Annotations, names.AnnCloneToken)
	r.Recorder.Event(p.dv, corev1.EventTypeWarning, how.fallback, how.message)
	return made, nil
}

// restore makes a claim from the snapshot, of any class of the driver that made it.
func (r *Reconciler) restore(ctx context.Context, p *pass, key client.ObjectKey, name string) (*corev1.PersistentVolumeClaim, error) {
	driver, mode, err := snapshot.Maker(ctx, r.Live, p.source.snapshot)
	if err != nil {
		return nil, err
	}
	var classes storagev1.StorageClassList
	if err := r.Client.List(ctx, &classes); err != nil {
		return nil, fmt.Errorf("list the storage classes: %w", err)
	}
	of := ""
	for i := range classes.Items {
		if classes.Items[i].Provisioner == driver {
			of = classes.Items[i].Name
			break
		}
	}
	if of == "" {
		p.refuse(names.EventErrUnableToClone, "no storage class of driver %s, which made snapshot %s", driver, name)
		return nil, nil
	}
	if mode == "" {
		mode = corev1.PersistentVolumeFilesystem
	}
	group := snapshot.Group
	temp := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, Annotations: map[string]string{}},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, VolumeMode: &mode, StorageClassName: &of,
			Resources:  corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: p.source.restoreSize}},
			DataSource: &corev1.TypedLocalObjectReference{APIGroup: &group, Kind: snapshot.Kind, Name: name},
		},
	}
	r.tie(p, temp)
	temp.Labels[names.LabelComponent] = "cdi-clone-from-snapshot-source-host-assisted-fallback-pvc"
	if err := r.Client.Create(ctx, temp); err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("create claim %s: %w", key, err)
	}
	return temp, nil
}
