package aggregation

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// How long a review's answer is believed. A refusal is forgotten sooner: whoever was just granted something tries again.
const (
	allowedFor  = 10 * time.Second
	deniedFor   = time.Second
	cachedMax   = 1024
	maxCacheKey = 10 << 10
)

// Reviewer grants access by SubjectAccessReview. k8s.io/apiserver has one too, which brings CEL, gRPC and tracing along:
// twice this program's memory for an expression language that is not used here.
type Reviewer struct {
	client client.Writer
	cache  *cache.LRUExpireCache
}

var _ authorizer.Authorizer = &Reviewer{}

// NewReviewer makes a Reviewer.
func NewReviewer(c client.Writer) *Reviewer {
	return &Reviewer{client: c, cache: cache.NewLRUExpireCache(cachedMax)}
}

// Authorize asks the Kubernetes API server.
func (v *Reviewer) Authorize(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	review := &authorizationv1.SubjectAccessReview{Spec: spec(a)}
	key, err := json.Marshal(review.Spec)
	if err != nil {
		return authorizer.DecisionNoOpinion, "", fmt.Errorf("encode the access review: %w", err)
	}
	if cached, ok := v.cache.Get(string(key)); ok {
		review.Status = cached.(authorizationv1.SubjectAccessReviewStatus)
	} else {
		if err := v.client.Create(ctx, review); err != nil {
			return authorizer.DecisionNoOpinion, "", fmt.Errorf("ask the Kubernetes API server for access: %w", err)
		}
		if len(key) <= maxCacheKey {
			v.cache.Add(string(key), review.Status, lifetime(review.Status))
		}
	}
	switch {
	case review.Status.Denied:
		return authorizer.DecisionDeny, review.Status.Reason, nil
	case review.Status.Allowed:
		return authorizer.DecisionAllow, review.Status.Reason, nil
	default:
		return authorizer.DecisionNoOpinion, review.Status.Reason, nil
	}
}

func lifetime(s authorizationv1.SubjectAccessReviewStatus) time.Duration {
	if s.Allowed && !s.Denied {
		return allowedFor
	}
	return deniedFor
}

func spec(a authorizer.Attributes) authorizationv1.SubjectAccessReviewSpec {
	user := a.GetUser()
	s := authorizationv1.SubjectAccessReviewSpec{
		User: user.GetName(), UID: user.GetUID(), Groups: user.GetGroups(),
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: a.GetNamespace(), Verb: a.GetVerb(), Group: a.GetAPIGroup(), Version: a.GetAPIVersion(),
			Resource: a.GetResource(), Subresource: a.GetSubresource(), Name: a.GetName(),
		},
	}
	if extra := user.GetExtra(); len(extra) > 0 {
		s.Extra = make(map[string]authorizationv1.ExtraValue, len(extra))
		for k, v := range extra {
			s.Extra[k] = v
		}
	}
	return s
}
