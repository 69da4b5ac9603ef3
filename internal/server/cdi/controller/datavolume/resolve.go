package datavolume

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
)

// source is where the data comes from, with references followed.
type source struct {
	kind kind
	// spec is the DataVolume's own source, or what its DataSource says.
	spec *cdi.DataVolumeSource
	// claim is the claim to clone, once it is found.
	claim *corev1.PersistentVolumeClaim
	// snapshot is the snapshot to clone, once it is found, and restoreSize what a volume made from it needs.
	snapshot    *unstructured.Unstructured
	restoreSize resource.Quantity
	// labels are the source's.
	labels map[string]string
}

// clones tells that the data comes from a claim or snapshot of the cluster.
func (s *source) clones() bool { return s.spec != nil && (s.spec.PVC != nil || s.spec.Snapshot != nil) }

// origin is the namespace and name of a clone's source.
func (s *source) origin() (namespace, name string) {
	switch {
	case s.spec == nil:
	case s.spec.PVC != nil:
		return s.spec.PVC.Namespace, s.spec.PVC.Name
	case s.spec.Snapshot != nil:
		return s.spec.Snapshot.Namespace, s.spec.Snapshot.Name
	}
	return "", ""
}

// resolve finds out where the data comes from.
func (r *Reconciler) resolve(ctx context.Context, p *pass) error {
	p.source.spec = p.dv.Spec.Source.DeepCopy()
	if ref := p.dv.Spec.SourceRef; ref != nil && p.source.spec == nil {
		if err := r.follow(ctx, p, ref); err != nil || p.why.reason != "" {
			return err
		}
	}
	s := &p.source
	if s.clones() {
		if s.spec.PVC != nil && s.spec.PVC.Namespace == "" {
			s.spec.PVC.Namespace = p.dv.Namespace
		}
		if s.spec.Snapshot != nil && s.spec.Snapshot.Namespace == "" {
			s.spec.Snapshot.Namespace = p.dv.Namespace
		}
	}
	namespace, name := s.origin()
	switch {
	case s.clones():
		s.kind = cloneKind(namespace + "/" + name)
	case s.spec != nil && s.spec.Upload != nil:
		s.kind = uploadKind()
	default:
		s.kind = importKind()
	}
	switch {
	case s.spec == nil:
		return nil
	case s.spec.Snapshot != nil:
		return r.findSnapshot(ctx, p)
	case s.spec.PVC != nil:
		return r.findClaim(ctx, p)
	}
	return nil
}

// findClaim looks for the claim to clone, which must be whole.
func (r *Reconciler) findClaim(ctx context.Context, p *pass) error {
	s := &p.source
	namespace, name := s.origin()
	waiting := p.claim == nil && !prePopulated(p.dv)
	found := &corev1.PersistentVolumeClaim{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, found)
	if apierrors.IsNotFound(err) {
		if waiting {
			p.refuse(names.EventNotAuthorized, "The source pvc %s doesn't exist", p.seen(namespace, name))
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read source claim %s/%s: %w", namespace, name, err)
	}
	s.claim = found
	if len(s.labels) == 0 {
		s.labels = found.Labels
	}
	if !waiting {
		return nil
	}
	whole, err := cdi.IsPopulated(found, func(name, namespace string) (*cdi.DataVolume, error) {
		dv := &cdi.DataVolume{}
		return dv, r.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, dv)
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("read the DataVolume of source claim %s/%s: %w", namespace, name, err)
	}
	if !whole && err == nil {
		p.refuse("ImportPVCNotReady", "The source PVC %s/%s is not fully imported", namespace, name)
	}
	return nil
}

// follow reads the DataSource that a DataVolume refers to.
func (r *Reconciler) follow(ctx context.Context, p *pass, ref *cdi.DataVolumeSourceRef) error {
	namespace := p.dv.Namespace
	if ref.Namespace != nil && *ref.Namespace != "" {
		namespace = *ref.Namespace
	}
	ds := &cdi.DataSource{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: ref.Name}, ds)
	if apierrors.IsNotFound(err) {
		if p.claim == nil && !prePopulated(p.dv) {
			p.refuse(names.EventNotAuthorized, "The source DataSource %s doesn't exist", p.seen(namespace, ref.Name))
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read DataSource %s/%s: %w", namespace, ref.Name, err)
	}
	from := ds.Spec.Source
	if from.DataSource != nil {
		from = ds.Status.Source // its controller followed the reference
	}
	if from.PVC == nil && from.Snapshot == nil {
		if p.claim == nil && !prePopulated(p.dv) {
			p.refuse(names.EventNotAuthorized, "Empty source field in '%s'. DataSource may not be ready yet", ref.Name)
		}
		return nil
	}
	p.source.spec = &cdi.DataVolumeSource{PVC: from.PVC.DeepCopy(), Snapshot: from.Snapshot.DeepCopy()}
	p.source.labels = ds.Labels
	return nil
}

func prePopulated(dv *cdi.DataVolume) bool {
	_, pre := dv.Annotations[names.AnnPrePopulated]
	_, static := dv.Annotations[names.AnnCheckStaticVolume]
	return pre || static
}
