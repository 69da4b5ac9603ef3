package datavolume

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/storageprofile"
	"virtctl/internal/server/cdi/controller/claim"
	"virtctl/internal/server/cdi/controller/class"
)

// ensureClaim makes the claim when there is none.
func (r *Reconciler) ensureClaim(ctx context.Context, p *pass) error {
	if p.claim != nil {
		return nil
	}
	if p.dv.Status.Phase == cdi.Succeeded {
		// It was there and somebody deleted it: filling another would surprise.
		p.refuse(names.ReasonNotFound, "No PVC found")
		return nil
	}
	if _, by := p.dv.Annotations[names.AnnPrePopulated]; by {
		p.refuse(names.ReasonNotFound, "No PVC found")
		return nil // somebody who restores a backup brings it
	}
	spec, err := r.claimSpec(ctx, p)
	if err != nil {
		if permanent(err) {
			p.refuse(names.EventErrClaimNotValid, "%v", err)
			return nil // a storage class, a profile or the user brings us back
		}
		return err
	}
	made, err := r.howeverFilled(ctx, p, spec)
	if err != nil || made == nil {
		return err
	}
	switch err := r.Client.Create(ctx, made); {
	case err == nil:
		p.claim = made
	case apierrors.IsAlreadyExists(err):
		return errLater
	case claim.IsQuota(err):
		p.refuse(names.EventErrExceededQuota, "%v", err) // the quota's next change brings us back
	case apierrors.IsInvalid(err):
		p.refuse(names.EventErrClaimNotValid, "%v", err)
	default:
		p.refuse(names.EventErrClaimNotValid, "%v", err)
		return fmt.Errorf("create claim %s/%s: %w", made.Namespace, made.Name, err)
	}
	return nil
}

// howeverFilled makes the claim for the way it will be filled. It gives nothing while that has to wait.
func (r *Reconciler) howeverFilled(ctx context.Context, p *pass, spec *corev1.PersistentVolumeClaimSpec) (*corev1.PersistentVolumeClaim, error) {
	volume, err := r.static(ctx, p)
	if err != nil {
		return nil, err
	}
	if volume != "" {
		spec.VolumeName = volume
		made := r.newClaim(p, spec)
		made.Annotations[names.AnnPopulatedFor] = p.dv.Name
		return made, nil
	}
	if !p.source.clones() || external(p) {
		return r.newClaim(p, spec), nil
	}
	var how plan
	if p.source.spec.Snapshot != nil {
		how, err = r.snapshotStrategy(ctx, p, spec)
	} else {
		how, err = r.strategy(ctx, p, spec)
	}
	if err != nil || p.why.reason != "" {
		return nil, err
	}
	if smart(how.way) {
		return r.smartClaim(ctx, p, spec, how)
	}
	if p.source.spec.Snapshot != nil {
		return r.restored(ctx, p, spec, how)
	}
	made := r.newClaim(p, spec)
	if how.fallback != "" {
		made.Annotations[names.AnnCloneFallback] = how.message
		r.Recorder.Event(p.dv, corev1.EventTypeWarning, how.fallback, how.message)
	}
	return made, nil
}

// static finds a volume that is there already and meant for this claim, as a restored backup leaves it.
func (r *Reconciler) static(ctx context.Context, p *pass) (string, error) {
	if _, asked := p.dv.Annotations[names.AnnCheckStaticVolume]; !asked {
		return "", nil
	}
	var volumes corev1.PersistentVolumeList
	if err := r.Client.List(ctx, &volumes); err != nil {
		return "", fmt.Errorf("list the volumes: %w", err)
	}
	for i := range volumes.Items {
		ref := volumes.Items[i].Spec.ClaimRef
		if ref != nil && ref.UID == "" && ref.Namespace == p.dv.Namespace && ref.Name == p.dv.Name &&
			volumes.Items[i].Status.Phase == corev1.VolumeAvailable {
			return volumes.Items[i].Name, nil
		}
	}
	return "", nil
}

// permanent tells errors that only another DataVolume or other storage can mend.
func permanent(err error) bool {
	for _, known := range []error{
		storageprofile.ErrNoClass, storageprofile.ErrNoSize, storageprofile.ErrTooSmall, storageprofile.ErrArchive,
		storageprofile.ErrUnsuited, storageprofile.ErrDisagrees, errNeither, errNoClass,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

var (
	errNeither = errors.New("datavolume one of {pvc, storage} field is required")
	errNoClass = errors.New("the storage class does not exist; create it or name another")
)

// claimSpec is what the DataVolume says, completed by what is known of the storage.
func (r *Reconciler) claimSpec(ctx context.Context, p *pass) (*corev1.PersistentVolumeClaimSpec, error) {
	if p.dv.Spec.PVC != nil {
		return r.plainSpec(p)
	}
	if p.dv.Spec.Storage == nil {
		return nil, errNeither
	}
	spec := fromStorage(p.dv.Spec.Storage)
	found, err := class.Find(ctx, r.Client, spec.StorageClassName, p.dv.Spec.ContentType)
	if err != nil {
		return nil, err
	}
	if found == nil && spec.StorageClassName != nil && *spec.StorageClassName != "" && len(spec.AccessModes) == 0 {
		return nil, fmt.Errorf("%s: %w", *spec.StorageClassName, errNoClass)
	}
	storage, err := class.Storage(ctx, r.Client, p.settings, found)
	if err != nil {
		return nil, err
	}
	if err := storageprofile.Modes(spec, p.dv.Spec.ContentType, storage); err != nil {
		return nil, err
	}
	if p.source.clones() {
		return spec, r.cloneSize(spec, p, storage)
	}
	return spec, storageprofile.Size(spec, storage)
}

func (r *Reconciler) plainSpec(p *pass) (*corev1.PersistentVolumeClaimSpec, error) {
	spec := p.dv.Spec.PVC.DeepCopy()
	if p.source.clones() && p.source.claim != nil && spec.Resources.Requests.Storage().IsZero() {
		return spec, r.cloneSize(spec, p, storageprofile.Storage{Overhead: "0"})
	}
	return spec, nil
}

// cloneSize takes the source's size when the DataVolume gives none.
func (r *Reconciler) cloneSize(spec *corev1.PersistentVolumeClaimSpec, p *pass, s storageprofile.Storage) error {
	if size := spec.Resources.Requests[corev1.ResourceStorage]; !size.IsZero() {
		return storageprofile.Size(spec, s)
	}
	size := p.source.size()
	if size.IsZero() {
		return fmt.Errorf("%w: the source does not say its size either", storageprofile.ErrNoSize)
	}
	if spec.Resources.Requests == nil {
		spec.Resources.Requests = corev1.ResourceList{}
	}
	spec.Resources.Requests[corev1.ResourceStorage] = size
	if source := p.source.claim; source != nil && !sameMode(source.Spec.VolumeMode, spec.VolumeMode) && isBlock(source.Spec.VolumeMode) {
		// The disk was all of the device; beside a file system it needs more.
		return storageprofile.Size(spec, s)
	}
	return nil
}

// size is what the source asked for, and what a clone gets that asks for nothing.
func (s *source) size() resource.Quantity {
	if s.claim == nil {
		return s.restoreSize
	}
	size := s.claim.Spec.Resources.Requests[corev1.ResourceStorage]
	return size
}

// least is what the storage makes of the source: no less than it has, which is more than it asked for where storage rounds sizes up.
func (s *source) least() resource.Quantity {
	least := s.restoreSize.DeepCopy()
	if s.claim != nil {
		for _, size := range []resource.Quantity{s.size(), s.claim.Status.Capacity[corev1.ResourceStorage]} {
			if size.Cmp(least) > 0 {
				least = size.DeepCopy()
			}
		}
	}
	return least
}

func isBlock(m *corev1.PersistentVolumeMode) bool {
	return m != nil && *m == corev1.PersistentVolumeBlock
}

func sameMode(a, b *corev1.PersistentVolumeMode) bool { return isBlock(a) == isBlock(b) }

func fromStorage(s *cdi.StorageSpec) *corev1.PersistentVolumeClaimSpec {
	s = s.DeepCopy()
	return &corev1.PersistentVolumeClaimSpec{
		AccessModes: s.AccessModes, Selector: s.Selector, Resources: s.Resources, VolumeName: s.VolumeName,
		StorageClassName: s.StorageClassName, VolumeMode: s.VolumeMode, DataSource: s.DataSource, DataSourceRef: s.DataSourceRef,
	}
}

// newClaim is the DataVolume's claim, with what it wants said in annotations.
func (r *Reconciler) newClaim(p *pass, spec *corev1.PersistentVolumeClaimSpec) *corev1.PersistentVolumeClaim {
	made := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: p.dv.Namespace, Name: p.dv.Name, Labels: map[string]string{}, Annotations: map[string]string{},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(p.dv, cdi.SchemeGroupVersion.WithKind("DataVolume"))},
		},
		Spec: *spec,
	}
	made.Labels[names.LabelApp] = names.LabelAppValue
	made.Labels[names.LabelManagedBy], made.Labels[names.LabelComp] = names.LeaseController, "storage"
	if !isBlock(spec.VolumeMode) {
		made.Labels[names.LabelFillingUpAlert] = names.LabelFillingUpAlertValue
	}
	for key, value := range p.dv.Labels {
		made.Labels[key] = value
	}
	a := made.Annotations
	for key, value := range p.dv.Annotations {
		if key != corev1.LastAppliedConfigAnnotation && key != names.AnnPopulatedFor {
			a[key] = value
		}
	}
	a[names.AnnPodRestarts] = "0"
	a[names.AnnContentType] = string(cdi.DataVolumeKubeVirt)
	if p.dv.Spec.ContentType != "" {
		a[names.AnnContentType] = string(p.dv.Spec.ContentType)
	}
	if p.dv.Spec.PriorityClassName != "" {
		a[names.AnnPriorityClassName] = p.dv.Spec.PriorityClassName
	}
	if p.dv.Spec.ServiceAccountName != "" {
		a[names.AnnPodServiceAccount] = p.dv.Spec.ServiceAccountName
	}
	a[names.AnnPreallocationRequest] = strconv.FormatBool(p.settings.Preallocation(p.dv.Spec.Preallocation))
	a[names.AnnCreatedForVolume] = string(p.dv.UID)
	if _, static := p.dv.Annotations[names.AnnCheckStaticVolume]; external(p) || static && spec.VolumeName != "" {
		return made
	}
	for key, value := range SourceAnnotations(p.source.spec) {
		a[key] = value
	}
	r.cloneAnnotations(p, made)
	for key, value := range checkpointAnnotations(p.dv, nil) {
		a[key] = value
	}
	return made
}

// external tells that another program fills the claim.
func external(p *pass) bool {
	spec := p.dv.Spec.PVC
	if s := p.dv.Spec.Storage; s != nil && (s.DataSource != nil || s.DataSourceRef != nil) {
		return true
	}
	if spec != nil && (spec.DataSource != nil || spec.DataSourceRef != nil) {
		return true
	}
	_, annotated := p.dv.Annotations[names.AnnExternalPopulation]
	return annotated
}
