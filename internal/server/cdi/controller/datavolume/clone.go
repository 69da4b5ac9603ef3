package datavolume

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/token"
	"virtctl/internal/server/cdi/controller/clonetoken"
)

// extendToken makes the permission to clone last as long as the DataVolume.
func (r *Reconciler) extendToken(ctx context.Context, p *pass, after *cdi.DataVolume) error {
	if !p.source.clones() || after.Annotations[names.AnnExtendedCloneToken] != "" || after.Annotations[names.AnnCloneToken] == "" {
		return nil
	}
	if _, filled := after.Annotations[names.AnnPrePopulated]; filled {
		return nil
	}
	long, err := r.Tokens.Extend(ctx, after.Annotations[names.AnnCloneToken], p.source.permission(),
		clonetoken.Target{Namespace: p.dv.Namespace, Name: p.dv.Name, UID: p.dv.UID})
	if errors.Is(err, token.ErrInvalid) {
		if p.claim == nil {
			p.refuse(names.EventErrUnableToClone, "%v", err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	after.Annotations[names.AnnExtendedCloneToken] = long
	return nil
}

// permission is what a token must allow.
func (s *source) permission() clonetoken.Source {
	namespace, name := s.origin()
	return clonetoken.Source{Snapshot: s.spec.Snapshot != nil, Namespace: namespace, Name: name}
}

// cloneAnnotations say on the claim what it is cloned from.
func (r *Reconciler) cloneAnnotations(p *pass, made *corev1.PersistentVolumeClaim) {
	if p.source.spec == nil || p.source.spec.PVC == nil {
		return
	}
	namespace, name := p.source.origin()
	made.Annotations[names.AnnCloneRequest] = namespace + "/" + name
	made.Annotations[names.AnnCloneType] = string(cdi.CloneStrategyHostAssisted)
	delete(made.Annotations, names.AnnCloneToken)
}
