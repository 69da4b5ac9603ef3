package review

import (
	"context"
	"errors"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/token"
)

// asker asks the API server what authorizing a clone takes.
type asker struct {
	ctx    context.Context //nolint:containedctx // the published interface takes none
	server *Server
}

func (a asker) CreateSar(review *authorizationv1.SubjectAccessReview) (*authorizationv1.SubjectAccessReview, error) {
	return review, a.server.Client.Create(a.ctx, review)
}

func (a asker) GetNamespace(name string) (*corev1.Namespace, error) {
	namespace := &corev1.Namespace{}
	return namespace, a.server.get(a.ctx, "", name, namespace)
}

// GetDataSource refuses one that says nothing yet: the published check would find nothing to check in it and let the user
// through.
func (a asker) GetDataSource(namespace, name string) (*cdiv1.DataSource, error) {
	source := &cdiv1.DataSource{}
	if err := a.server.get(a.ctx, namespace, name, source); err != nil {
		return nil, err
	}
	s := source.Spec.Source
	if s.DataSource != nil {
		s = source.Status.Source
	}
	if s.PVC == nil && s.Snapshot == nil {
		return nil, fmt.Errorf("Empty source field in '%s'. DataSource may not be ready yet", name) //nolint:staticcheck // the contract's text
	}
	return source, nil
}

// mutateDataVolume gives a clone the token that says its creator may read the source. Later nobody can tell who that was.
func (s *Server) mutateDataVolume(ctx context.Context, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	dv := &cdiv1.DataVolume{}
	if err := decode(r, dv, &cdiv1.DataVolume{}); err != nil {
		return failed(err)
	}
	if dv.DeletionTimestamp != nil {
		return nil
	}
	answer, err := dv.AuthorizeUser(r.Namespace, r.Name, asker{ctx, s}, r.UserInfo)
	switch {
	case errors.Is(err, cdiv1.ErrNoTokenOkay):
		return nil
	case err != nil:
		return failed(err)
	case !answer.Allowed:
		return denied(invalid(field.NewPath("spec", "source", "PVC", "namespace"), "%s", answer.Reason))
	case r.Operation != admissionv1.Create:
		return nil
	}
	target := Object{Resource: token.Claims(), Namespace: first(dv.Namespace, r.Namespace), Name: first(dv.Name, r.Name)}
	source := Object{
		Resource: answer.Handler.TokenResource, Name: answer.Handler.SourceName,
		Namespace: first(answer.Handler.SourceNamespace, target.Namespace),
	}
	text, err := s.Sign(source, target)
	if err != nil {
		return failed(err)
	}
	return annotated(dv.ObjectMeta, names.AnnCloneToken, text)
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// annotated allows an object with one more annotation.
func annotated(meta metav1.ObjectMeta, key, value string) *admissionv1.AdmissionResponse {
	all := map[string]string{key: value}
	for k, v := range meta.Annotations {
		if k != key {
			all[k] = v
		}
	}
	return patched(operation{"add", "/metadata/annotations", all})
}
