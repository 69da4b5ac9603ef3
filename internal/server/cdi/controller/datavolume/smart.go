package datavolume

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/token"
	"virtctl/internal/server/cdi/controller/clonetoken"
	"virtctl/internal/server/cdi/controller/index"
	"virtctl/internal/server/cdi/controller/snapshot"
)

// annExpandTo is the size a claim shall have once it is as large as its source.
const annExpandTo = "virtctl.io/expand-to"

// smartClaim makes the claim of a clone that the storage makes by itself, when everything it needs is there. Until then it says what is
// under way and leaves the claim nil.
func (r *Reconciler) smartClaim(ctx context.Context, p *pass, spec *corev1.PersistentVolumeClaimSpec, how plan) (*corev1.PersistentVolumeClaim, error) {
	if ok, err := r.allowed(ctx, p); err != nil || !ok || !fits(p, spec) {
		return nil, err
	}
	namespace, name := p.source.origin()
	if p.source.claim != nil {
		writers, err := index.Users(ctx, r.Client, namespace, name, true)
		if err != nil {
			return nil, err
		}
		if len(writers) > 0 {
			p.refuse(names.EventCloneSourceInUse, "pod %s/%s using PersistentVolumeClaim %s", writers[0].Namespace, writers[0].Name, name)
			return nil, nil
		}
	}
	if namespace != p.dv.Namespace {
		if err := r.holdOn(ctx, p); err != nil {
			return nil, err
		}
	}
	from, err := r.origin(ctx, p, how)
	if err != nil || from == nil {
		return nil, err
	}
	how.size(p, spec)
	if namespace != p.dv.Namespace {
		return r.transferred(ctx, p, spec, how, from)
	}
	spec.DataSource, spec.DataSourceRef = from, nil
	made := r.newClaim(p, spec)
	smartAnnotations(made, how)
	return made, nil
}

// fits tells whether a clone may be as small as this one shall be: storage makes none smaller than its source. A snapshot does not know what was
// asked for; a little less than it needs is what rounding made of the same size.
func fits(p *pass, spec *corev1.PersistentVolumeClaimSpec) bool {
	want, asked := spec.Resources.Requests[corev1.ResourceStorage], p.source.size()
	if p.source.claim == nil || want.Cmp(asked) >= 0 {
		return true
	}
	p.refuse(names.EventErrUnableToClone, "target resources requests storage size %s is smaller than the source's %s", want.String(), asked.String())
	return false
}

// size makes the claim as large as what the storage will make, and leaves the rest for later.
func (how *plan) size(p *pass, spec *corev1.PersistentVolumeClaimSpec) {
	want, least := spec.Resources.Requests[corev1.ResourceStorage], p.source.least()
	if want.Cmp(least) > 0 {
		how.expandTo = want
	}
	spec.Resources.Requests = spec.Resources.Requests.DeepCopy()
	spec.Resources.Requests[corev1.ResourceStorage] = least
}

func smartAnnotations(made *corev1.PersistentVolumeClaim, how plan) {
	delete(made.Annotations, names.AnnCloneRequest)
	made.Annotations[names.AnnCloneType] = string(how.way)
	if !how.expandTo.IsZero() {
		made.Annotations[annExpandTo] = how.expandTo.String()
	}
}

// allowed tells whether the DataVolume's creator may read the source.
func (r *Reconciler) allowed(ctx context.Context, p *pass) (bool, error) {
	err := r.Tokens.Check(ctx, p.dv.Annotations, p.source.permission(), clonetoken.Target{Namespace: p.dv.Namespace, Name: p.dv.Name, UID: p.dv.UID})
	if errors.Is(err, token.ErrInvalid) {
		p.refuse(names.EventErrUnableToClone, "%v", err)
		return false, nil
	}
	return err == nil, err
}

// holdOn puts a finalizer on the DataVolume: what is made in another namespace has no owner there and must be removed by us.
func (r *Reconciler) holdOn(ctx context.Context, p *pass) error {
	after := p.before.DeepCopy()
	if !controllerutil.AddFinalizer(after, names.FinalizerDataVolume) {
		return nil
	}
	if _, err := r.volumes.Patch(ctx, p.before, after); err != nil {
		return fmt.Errorf("hold on to DataVolume %s: %w", p.dv.Name, err)
	}
	return errLater
}

// origin is what the new volume is made from: the source itself, or a snapshot of it that is ready.
func (r *Reconciler) origin(ctx context.Context, p *pass, how plan) (*corev1.TypedLocalObjectReference, error) {
	namespace, name := p.source.origin()
	group := snapshot.Group
	if p.source.spec.Snapshot != nil {
		return &corev1.TypedLocalObjectReference{APIGroup: &group, Kind: snapshot.Kind, Name: name}, nil
	}
	if how.way == cdi.CloneStrategyCsiClone {
		return &corev1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: name}, nil
	}
	p.now = cdi.SnapshotForSmartCloneInProgress
	s := snapshot.New()
	key := client.ObjectKey{Namespace: namespace, Name: temporary(names.TempSnapshotPrefix, p.dv)}
	err := r.Client.Get(ctx, key, s)
	if apierrors.IsNotFound(err) {
		made := snapshot.Of(key.Namespace, key.Name, name, how.snapshotClass)
		r.tie(p, made)
		if err := r.Client.Create(ctx, made); err != nil && !apierrors.IsAlreadyExists(err) {
			return nil, fmt.Errorf("create snapshot %s: %w", key, err)
		}
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read snapshot %s: %w", key, err)
	}
	ready, failed := snapshot.Ready(s)
	if failed != "" {
		p.refuse(names.EventErrUnableToClone, "snapshot %s: %s", key, failed)
	}
	if !ready {
		return nil, nil
	}
	p.now, p.source.restoreSize = "", snapshot.Size(s)
	return &corev1.TypedLocalObjectReference{APIGroup: &group, Kind: snapshot.Kind, Name: key.Name}, nil
}

// tie marks a temporary object as the DataVolume's: by ownership in its own namespace, by label in another.
func (r *Reconciler) tie(p *pass, obj client.Object) {
	labels := obj.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[names.LabelApp], labels[names.LabelComponent] = names.LabelAppValue, names.ComponentSmartClone
	labels[names.LabelOwnedByUID] = string(p.dv.UID)
	obj.SetLabels(labels)
	if obj.GetNamespace() == p.dv.Namespace {
		obj.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(p.dv, cdi.SchemeGroupVersion.WithKind("DataVolume"))})
		return
	}
	annotations := obj.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[names.AnnEventSource] = p.dv.Namespace + "/" + p.dv.Name
	obj.SetAnnotations(annotations)
}

// transferred makes the volume in the source's namespace first, and gives a claim that takes it over.
func (r *Reconciler) transferred(ctx context.Context, p *pass, spec *corev1.PersistentVolumeClaimSpec, how plan, from *corev1.TypedLocalObjectReference) (*corev1.PersistentVolumeClaim, error) {
	namespace, _ := p.source.origin()
	key := client.ObjectKey{Namespace: namespace, Name: temporary(names.TempClaimPrefix, p.dv)}
	temp := &corev1.PersistentVolumeClaim{}
	p.now = cdi.CSICloneInProgress
	if from.Kind == snapshot.Kind {
		p.now = cdi.SmartClonePVCInProgress
	}
	err := r.Client.Get(ctx, key, temp)
	if apierrors.IsNotFound(err) {
		temp = &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}, Spec: *spec.DeepCopy()}
		temp.Spec.DataSource, temp.Spec.DataSourceRef, temp.Spec.VolumeName = from, nil, ""
		r.tie(p, temp)
		if err := r.Client.Create(ctx, temp); err != nil && !apierrors.IsAlreadyExists(err) {
			return nil, fmt.Errorf("create claim %s: %w", key, err)
		}
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read claim %s: %w", key, err)
	}
	if temp.Status.Phase != corev1.ClaimBound {
		turned, err := r.giveUp(ctx, p, temp)
		switch {
		case turned:
			err = errLater
		case p.stuck != "":
			p.refuse(names.EventErrUnableToClone, "%s", p.stuck)
		}
		return nil, err
	}
	p.now = cdi.NamespaceTransferInProgress
	target := spec.DeepCopy()
	target.VolumeName, target.DataSource, target.DataSourceRef = temp.Spec.VolumeName, nil, nil
	made := r.newClaim(p, target)
	smartAnnotations(made, how)
	return made, nil
}

// removeTemporary removes what was made on the way in another namespace. The DataVolume may go then.
func (r *Reconciler) removeTemporary(ctx context.Context, dv *cdi.DataVolume) error {
	labels := client.MatchingLabels{names.LabelOwnedByUID: string(dv.UID)}
	var claims corev1.PersistentVolumeClaimList
	if err := r.Client.List(ctx, &claims, labels); err != nil {
		return fmt.Errorf("list temporary claims: %w", err)
	}
	var failed error
	for i := range claims.Items {
		failed = errors.Join(failed, client.IgnoreNotFound(r.Client.Delete(ctx, &claims.Items[i])))
	}
	if r.Snapshots.Available() {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(snapshot.New().GroupVersionKind().GroupVersion().WithKind(snapshot.Kind + "List"))
		if err := r.Client.List(ctx, list, labels); err != nil {
			return fmt.Errorf("list temporary snapshots: %w", err)
		}
		for i := range list.Items {
			failed = errors.Join(failed, client.IgnoreNotFound(r.Client.Delete(ctx, &list.Items[i])))
		}
	}
	return failed
}

// release takes our finalizer off a DataVolume once nothing of it is left elsewhere.
func (r *Reconciler) release(ctx context.Context, dv *cdi.DataVolume) error {
	after := dv.DeepCopy()
	if !controllerutil.RemoveFinalizer(after, names.FinalizerDataVolume) {
		return nil
	}
	if err := r.removeTemporary(ctx, dv); err != nil {
		return err
	}
	if _, err := r.volumes.Patch(ctx, dv, after); err != nil {
		return fmt.Errorf("release DataVolume %s: %w", dv.Name, err)
	}
	return nil
}
