package populator

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/token"
	"virtctl/internal/server/cdi/controller/clonetoken"
	"virtctl/internal/server/cdi/controller/datavolume"
	"virtctl/internal/server/cdi/controller/settings"
	"virtctl/internal/server/cdi/controller/workerpod"
)

// render makes PVC', with what its source says as annotations. It gives nothing while the source is not there.
func (r *Reconciler) render(ctx context.Context, p *pass, s *settings.Current) (*corev1.PersistentVolumeClaim, error) {
	ref := p.claim.Spec.DataSourceRef
	prime := r.empty(p)
	key := client.ObjectKey{Namespace: p.claim.Namespace, Name: ref.Name}
	if ref.Namespace != nil && *ref.Namespace != "" {
		key.Namespace = *ref.Namespace
	}
	if other := p.claim.Annotations[names.AnnDataSourceNs]; other != "" {
		key.Namespace = other
	}
	var err error
	switch ref.Kind {
	case cdi.VolumeImportSourceRef:
		source := &cdi.VolumeImportSource{}
		if err = r.Client.Get(ctx, key, source); err == nil {
			importSource(prime, &source.Spec, s)
		}
	case cdi.VolumeUploadSourceRef:
		source := &cdi.VolumeUploadSource{}
		if err = r.Client.Get(ctx, key, source); err == nil {
			prime.Annotations[names.AnnUploadRequest] = ""
			content(prime, source.Spec.ContentType, source.Spec.Preallocation, s)
		}
	case cdi.VolumeCloneSourceRef:
		source := &cdi.VolumeCloneSource{}
		if err = r.Client.Get(ctx, key, source); err == nil {
			content(prime, cdi.DataVolumeContentType(workerpod.ContentType(p.claim)), source.Spec.Preallocation, s)
			if source.Spec.PriorityClassName != nil {
				prime.Annotations[names.AnnPriorityClassName] = *source.Spec.PriorityClassName
			}
			return r.cloneSource(ctx, p, prime, source)
		}
	}
	if apierrors.IsNotFound(err) {
		return nil, nil // its creation brings us back
	}
	if err != nil {
		return nil, fmt.Errorf("read %s %s: %w", ref.Kind, key, err)
	}
	return prime, nil
}

// empty is PVC' without a source.
func (r *Reconciler) empty(p *pass) *corev1.PersistentVolumeClaim {
	c := p.claim
	prime := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: c.Namespace, Name: PrimeName(c), OwnerReferences: workerpod.OwnedBy(c),
			Labels: map[string]string{
				names.LabelApp: names.LabelAppValue, names.LabelManagedBy: names.LeaseController, names.LabelComp: "storage",
				names.AnnBackupExclude: "true",
			},
			Annotations: map[string]string{
				names.AnnImmediateBinding: "", names.AnnPopulatorKind: c.Spec.DataSourceRef.Kind, names.AnnPodRestarts: "0",
			},
		},
		Spec: *c.Spec.DeepCopy(),
	}
	prime.Spec.DataSource, prime.Spec.DataSourceRef, prime.Spec.VolumeName = nil, nil, ""
	for _, key := range []string{
		names.AnnSelectedNode, names.AnnPodRetain, names.AnnPriorityClassName, names.AnnPodServiceAccount, names.AnnPodNetwork,
		names.AnnMultusDefaultNetwork, names.AnnIstioInject, names.AnnLinkerdInject,
	} {
		if value := c.Annotations[key]; value != "" {
			prime.Annotations[key] = value
		}
	}
	return prime
}

func importSource(prime *corev1.PersistentVolumeClaim, spec *cdi.VolumeImportSourceSpec, s *settings.Current) {
	content(prime, spec.ContentType, spec.Preallocation, s)
	if spec.Source == nil {
		return
	}
	from := &cdi.DataVolumeSource{
		HTTP: spec.Source.HTTP, S3: spec.Source.S3, Registry: spec.Source.Registry, GCS: spec.Source.GCS, Blank: spec.Source.Blank,
		Imageio: spec.Source.Imageio, VDDK: spec.Source.VDDK,
	}
	for key, value := range datavolume.SourceAnnotations(from) {
		prime.Annotations[key] = value
	}
}

func content(prime *corev1.PersistentVolumeClaim, t cdi.DataVolumeContentType, preallocation *bool, s *settings.Current) {
	if t == "" {
		t = cdi.DataVolumeKubeVirt
	}
	prime.Annotations[names.AnnContentType] = string(t)
	prime.Annotations[names.AnnPreallocationRequest] = strconv.FormatBool(s.Preallocation(preallocation))
}

// cloneSource says on PVC' what to clone. The source is in the VolumeCloneSource's namespace; from another one, the claim needs the
// permission that the webhook gave its creator.
func (r *Reconciler) cloneSource(ctx context.Context, p *pass, prime *corev1.PersistentVolumeClaim, source *cdi.VolumeCloneSource) (*corev1.PersistentVolumeClaim, error) {
	from := clonetoken.Source{Namespace: source.Namespace, Name: source.Spec.Source.Name}
	if source.Spec.Source.Kind != "PersistentVolumeClaim" {
		r.refuse(p, fmt.Sprintf("VolumeCloneSource %s names a %s; only claims can be cloned this way, use a DataVolume for snapshots", source.Name, source.Spec.Source.Kind))
		return nil, nil
	}
	if source.Namespace != p.claim.Namespace {
		to := clonetoken.Target{Namespace: p.claim.Namespace, Name: p.claim.Name, UID: p.claim.UID}
		if uid := p.claim.Annotations[names.AnnCreatedForVolume]; uid != "" {
			to.UID = typesUID(uid)
		}
		switch err := r.Tokens.Check(ctx, p.claim.Annotations, from, to); {
		case errors.Is(err, token.ErrInvalid):
			r.refuse(p, err.Error())
			return nil, nil
		case err != nil:
			return nil, err
		}
	}
	origin := &corev1.PersistentVolumeClaim{}
	if err := r.Client.Get(ctx, client.ObjectKey{Namespace: from.Namespace, Name: from.Name}, origin); err != nil {
		if apierrors.IsNotFound(err) {
			r.refuse(p, fmt.Sprintf("The source pvc %s/%s doesn't exist", from.Namespace, from.Name))
			return nil, fmt.Errorf("claim %s/%s, the source of %s, does not exist", from.Namespace, from.Name, p.claim.Name)
		}
		return nil, fmt.Errorf("read the source claim: %w", err)
	}
	prime.Annotations[names.AnnContentType] = workerpod.ContentType(origin)
	prime.Annotations[names.AnnCloneRequest] = from.Namespace + "/" + from.Name
	prime.Annotations[names.AnnCloneType] = string(cdi.CloneStrategyHostAssisted)
	prime.Annotations[names.AnnCreatedForVolume] = string(p.claim.UID)
	permit, err := r.Tokens.Grant(ctx, from, clonetoken.Target{Namespace: prime.Namespace, Name: prime.Name, UID: p.claim.UID})
	if err != nil {
		return nil, err
	}
	prime.Annotations[names.AnnExtendedCloneToken] = permit
	return prime, nil
}

// refuse says on the claim, once, why nothing happens.
func (r *Reconciler) refuse(p *pass, message string) {
	a := p.claim.Annotations
	if a[names.AnnCloneError] != message {
		a[names.AnnCloneError] = message
		r.tell(p, corev1.EventTypeWarning, names.EventErrUnableToClone, message)
	}
}
