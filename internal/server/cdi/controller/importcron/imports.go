package importcron

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
	"virtctl/internal/server/cdi/controller/snapshot"
)

// look finds out how far the newest import is.
func (r *Reconciler) look(ctx context.Context, p *pass) error {
	imports := p.cron.Status.CurrentImports
	if len(imports) == 0 {
		r.condition(p, cdi.DataImportCronProgressing, corev1.ConditionFalse, reasonNoImport, "No current import")
		return nil
	}
	key := client.ObjectKey{Namespace: p.cron.Namespace, Name: imports[0].DataVolumeName}
	if kept, err := r.keptSnapshot(ctx, p, key); err != nil || kept {
		return err
	}
	dv := &cdi.DataVolume{}
	err := r.Client.Get(ctx, key, dv)
	switch {
	case apierrors.IsNotFound(err):
		return r.lookAtClaim(ctx, p, key)
	case err != nil:
		return fmt.Errorf("read DataVolume %s: %w", key, err)
	}
	switch dv.Status.Phase {
	case cdi.Succeeded:
		r.condition(p, cdi.DataImportCronProgressing, corev1.ConditionFalse, reasonNoImport, "No current import")
		p.source = &cdi.DataSourceSource{PVC: &cdi.DataVolumeSourcePVC{Namespace: key.Namespace, Name: key.Name}}
	case cdi.ImportScheduled:
		r.condition(p, cdi.DataImportCronProgressing, corev1.ConditionFalse, reasonScheduled, "Import is scheduled")
	case cdi.ImportInProgress:
		r.condition(p, cdi.DataImportCronProgressing, corev1.ConditionTrue, reasonInProgress, "Import is progressing")
	default:
		phase := string(dv.Status.Phase)
		r.condition(p, cdi.DataImportCronProgressing, corev1.ConditionFalse, phase, "Import DataVolume phase "+phase)
	}
	if dv.Status.Phase == cdi.Failed && p.cron.Annotations[names.AnnSourceDesiredDigest] != imports[0].Digest {
		// A newer image is there: what failed with the old one is of no use.
		if err := r.Client.Delete(ctx, dv); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete DataVolume %s: %w", key, err)
		}
		p.cron.Status.CurrentImports = nil
	}
	return nil
}

// lookAtClaim is for imports whose DataVolume was collected, and those that are gone altogether.
func (r *Reconciler) lookAtClaim(ctx context.Context, p *pass, key client.ObjectKey) error {
	r.condition(p, cdi.DataImportCronProgressing, corev1.ConditionFalse, reasonNoImport, "No current import")
	claim := &corev1.PersistentVolumeClaim{}
	err := r.Client.Get(ctx, key, claim)
	switch {
	case err == nil && claim.Status.Phase == corev1.ClaimBound:
		p.source = &cdi.DataSourceSource{PVC: &cdi.DataVolumeSourcePVC{Namespace: key.Namespace, Name: key.Name}}
	case apierrors.IsNotFound(err):
		p.cron.Status.CurrentImports = p.cron.Status.CurrentImports[1:]
	case err != nil:
		return fmt.Errorf("read claim %s: %w", key, err)
	}
	return nil
}

// keptSnapshot takes a snapshot that holds the import for its source.
func (r *Reconciler) keptSnapshot(ctx context.Context, p *pass, key client.ObjectKey) (bool, error) {
	if !r.Snapshots.Available() {
		return false, nil
	}
	s := snapshot.New()
	if err := r.Client.Get(ctx, key, s); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	if ready, failed := snapshot.Ready(s); !ready {
		if failed != "" {
			r.Recorder.Eventf(p.cron, corev1.EventTypeWarning, "SnapshotFailed", "%s", failed)
		}
		return false, nil
	}
	r.condition(p, cdi.DataImportCronProgressing, corev1.ConditionFalse, reasonNoImport, "No current import")
	p.source = &cdi.DataSourceSource{Snapshot: &cdi.DataVolumeSourceSnapshot{Namespace: key.Namespace, Name: key.Name}}
	return true, nil
}

// follow keeps an import as a snapshot where that suits the storage, and notes the success.
func (r *Reconciler) follow(ctx context.Context, p *pass) error {
	if p.source == nil {
		return nil
	}
	imports := p.cron.Status.CurrentImports
	name := imports[0].DataVolumeName
	if p.source.Snapshot != nil {
		if err := r.removeImported(ctx, p, name); err != nil {
			return err
		}
	} else if p.format == cdi.DataImportCronSourceFormatSnapshot {
		failed, err := r.snap(ctx, p, name)
		if err != nil || !failed {
			p.source = nil // the snapshot brings us back when it is ready
			return err
		}
		// The storage may yet make it. Until then the claim is as good a source.
	}
	last := &cdi.DataVolumeSourcePVC{Namespace: p.cron.Namespace, Name: name}
	if old := p.cron.Status.LastImportedPVC; old == nil || *old != *last {
		now := metav1.NewTime(r.Now())
		p.cron.Status.LastImportTimestamp = &now
		p.cron.Status.LastImportedPVC = last
		return r.used(ctx, p, name)
	}
	return nil
}

// snap makes the snapshot of a finished import unless it is being made. It tells whether the storage refused.
func (r *Reconciler) snap(ctx context.Context, p *pass, name string) (refused bool, err error) {
	s := snapshot.New()
	err = r.Client.Get(ctx, client.ObjectKey{Namespace: p.cron.Namespace, Name: name}, s)
	if apierrors.IsNotFound(err) {
		return false, r.makeSnapshot(ctx, p, name)
	}
	if err != nil {
		return false, fmt.Errorf("read snapshot %s: %w", name, err)
	}
	_, failed := snapshot.Ready(s)
	return failed != "", nil
}

// removeImported removes what a snapshot that is ready was made from.
func (r *Reconciler) removeImported(ctx context.Context, p *pass, name string) error {
	for _, obj := range []client.Object{&cdi.DataVolume{}, &corev1.PersistentVolumeClaim{}} {
		err := r.Client.Get(ctx, client.ObjectKey{Namespace: p.cron.Namespace, Name: name}, obj)
		if err == nil && obj.GetDeletionTimestamp() == nil {
			err = r.Client.Delete(ctx, obj)
		}
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete what snapshot %s was made from: %w", name, err)
		}
	}
	return nil
}

func (r *Reconciler) makeSnapshot(ctx context.Context, p *pass, name string) error {
	profile := &cdi.StorageProfile{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: p.class}, profile); err != nil {
		return fmt.Errorf("read StorageProfile %s: %w", p.class, err)
	}
	if profile.Status.SnapshotClass == nil {
		return fmt.Errorf("StorageProfile %s has no snapshot class", p.class)
	}
	claim := &corev1.PersistentVolumeClaim{}
	if err := r.Client.Get(ctx, client.ObjectKey{Namespace: p.cron.Namespace, Name: name}, claim); err != nil {
		return fmt.Errorf("read claim %s: %w", name, err)
	}
	s := snapshot.Of(p.cron.Namespace, name, name, *profile.Status.SnapshotClass)
	labels := s.GetLabels()
	for key, value := range r.labels(p) {
		labels[key] = value
	}
	s.SetLabels(labels)
	size := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	mode := corev1.PersistentVolumeFilesystem
	if claim.Spec.VolumeMode != nil {
		mode = *claim.Spec.VolumeMode
	}
	s.SetAnnotations(map[string]string{
		names.AnnSourceVolumeMode: string(mode), names.AnnAdvisedRestoreSize: size.String(),
		names.AnnLastUseTime: r.stamp(),
	})
	if err := r.Client.Create(ctx, s); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create snapshot %s: %w", name, err)
	}
	return nil
}

// begin starts the import of a digest that is not there yet. One that is, of an earlier time or another schedule, is used again.
func (r *Reconciler) begin(ctx context.Context, p *pass) error {
	desired := p.cron.Annotations[names.AnnSourceDesiredDigest]
	imports := p.cron.Status.CurrentImports
	if desired == "" || len(imports) > 0 && (imports[0].Digest == desired || p.source == nil) {
		return nil
	}
	name := volumeName(p.cron.Spec.ManagedDataSource, desired)
	dv := r.volume(p, name, desired)
	key := client.ObjectKeyFromObject(dv)
	exists, err := r.exists(ctx, key)
	if err != nil {
		return err
	}
	if !exists {
		if err := r.Client.Create(ctx, dv); err != nil && !apierrors.IsAlreadyExists(err) {
			r.Recorder.Eventf(p.cron, corev1.EventTypeWarning, names.EventErrImportFailed, "%v", err)
			return fmt.Errorf("create DataVolume %s: %w", key, err)
		}
	}
	p.cron.Status.CurrentImports = []cdi.ImportStatus{{DataVolumeName: name, Digest: desired}}
	p.source = nil
	r.condition(p, cdi.DataImportCronProgressing, corev1.ConditionFalse, reasonScheduled, "Import is scheduled")
	return nil
}

// exists tells that a digest was imported before.
func (r *Reconciler) exists(ctx context.Context, key client.ObjectKey) (bool, error) {
	objects := []client.Object{&corev1.PersistentVolumeClaim{}}
	if r.Snapshots.Available() {
		objects = append(objects, snapshot.New())
	}
	for _, obj := range objects {
		err := r.Client.Get(ctx, key, obj)
		if err == nil {
			return true, nil
		}
		if !apierrors.IsNotFound(err) {
			return false, fmt.Errorf("look for an import %s: %w", key, err)
		}
	}
	return false, nil
}

// volume is the DataVolume of an import: the template, with the source pinned to the digest.
func (r *Reconciler) volume(p *pass, name, digest string) *cdi.DataVolume {
	t := &p.cron.Spec.Template
	dv := &cdi.DataVolume{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.cron.Namespace, Name: name, Labels: map[string]string{}, Annotations: map[string]string{}},
		Spec:       *t.Spec.DeepCopy(),
	}
	for key, value := range t.Annotations {
		dv.Annotations[key] = value
	}
	for key, value := range t.Labels {
		dv.Labels[key] = value
	}
	for key, value := range p.cron.Labels {
		if names.Inherited(key) {
			dv.Labels[key] = value
		}
	}
	for key, value := range r.labels(p) {
		dv.Labels[key] = value
	}
	// A boot source shall be there before anybody asks for it.
	dv.Annotations[names.AnnImmediateBinding] = "true"
	dv.Annotations[names.AnnLastUseTime] = r.stamp()
	dv.Annotations[names.AnnDeleteAfterCompletion] = "false"
	if token := p.cron.Annotations[names.AnnCloneToken]; token != "" {
		dv.Annotations[names.AnnCloneToken] = token
	}
	if p.cron.Spec.ServiceAccountName != nil {
		dv.Spec.ServiceAccountName = *p.cron.Spec.ServiceAccountName
	}
	if s := dv.Spec.Source; s != nil && s.Registry != nil {
		pin(s.Registry, digest, p.cron.Annotations[names.AnnImageStreamDockerRef])
	}
	return dv
}

// labels tie what is made to the DataImportCron.
func (r *Reconciler) labels(p *pass) map[string]string {
	out := map[string]string{names.LabelImportCron: p.cron.Name}
	if keep := p.cron.Spec.RetentionPolicy; keep != nil && *keep == cdi.DataImportCronRetainNone {
		out[names.LabelImportCronCleanup] = "true"
	}
	return out
}
