package access

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"virtctl/internal/reply"
	"virtctl/internal/server/api/routes"
)

// Guard lets only those through to a route who may use it.
type Guard struct {
	Authn authenticator.Request
	Authz authorizer.Authorizer
	Log   *slog.Logger
}

// Wrap guards the handler of a route. The access review is made from the route itself, never from the request's path, so
// that what is reviewed is what is served.
func (g Guard) Wrap(route routes.Route, version string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := checkNames(route, r); err != nil {
			reply.Error(w, err)
			return
		}
		if route.Public {
			next.ServeHTTP(w, r)
			return
		}
		who, err := identify(g.Authn, r)
		if err != nil {
			g.Log.Info("refused a request", "path", r.URL.Path, "from", r.RemoteAddr, "error", err)
			reply.Error(w, apierrors.NewUnauthorized(err.Error()))
			return
		}
		a := attributes(route, version, r)
		a.User = who.User
		decision, reason, err := g.Authz.Authorize(r.Context(), a)
		switch {
		case err != nil:
			reply.Error(w, apierrors.NewInternalError(err))
		case decision != authorizer.DecisionAllow:
			reply.Error(w, forbidden(a, reason))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func attributes(route routes.Route, version string, r *http.Request) authorizer.AttributesRecord {
	return authorizer.AttributesRecord{
		Verb: route.Verb(), Namespace: r.PathValue("namespace"), APIGroup: routes.Group, APIVersion: version,
		Resource: route.Resource, Subresource: route.Subresource, Name: r.PathValue("name"),
		ResourceRequest: true, Path: r.URL.Path,
	}
}

// forbidden says what is missing, so that an administrator can grant exactly that.
func forbidden(a authorizer.AttributesRecord, reason string) error {
	what := a.Resource
	if a.Subresource != "" {
		what += "/" + a.Subresource
	}
	message := fmt.Sprintf("User %q cannot %s resource %q in API group %q in the namespace %q",
		a.User.GetName(), a.Verb, what, a.APIGroup, a.Namespace)
	if reason != "" {
		message += ": " + reason
	}
	return apierrors.NewForbidden(schema.GroupResource{Group: a.APIGroup, Resource: what}, a.Name, fmt.Errorf("%s", message))
}

// checkNames refuses names that Kubernetes could not have given, such as "a%2Fb", before anything is made of them.
func checkNames(route routes.Route, r *http.Request) error {
	for _, parameter := range []string{"namespace", "name"} {
		value := r.PathValue(parameter)
		used := route.Scope == routes.Named || (route.Scope == routes.Namespaced && parameter == "namespace")
		if !used {
			continue
		}
		if problems := content.IsPathSegmentName(value); value == "" || len(problems) > 0 {
			return apierrors.NewBadRequest(fmt.Sprintf("%s %q: %s", parameter, value, strings.Join(append(problems, "is not a name"), ", ")))
		}
	}
	return nil
}
