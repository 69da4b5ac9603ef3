package aggregation

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"virtctl/internal/reply"
)

// Guard lets only those through who may do what a route does.
type Guard struct {
	Authn authenticator.Request
	Authz authorizer.Authorizer
	Log   *slog.Logger
}

// Route is what is reviewed before a route is served. It comes from the server's own table and never from the request's path, so
// that what is reviewed is what is served.
type Route struct {
	Verb, Group, Version, Resource, Subresource string
	// Parameters are the path's wildcards, of "namespace" and "name", that the route has.
	Parameters []string
}

// Wrap guards the handler of a route.
func (g Guard) Wrap(route Route, next http.Handler) http.Handler {
	return Named(route.Parameters, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := identify(g.Authn, r)
		if err != nil {
			g.Log.Info("refused a request", "path", r.URL.Path, "from", r.RemoteAddr, "error", err)
			reply.Error(w, apierrors.NewUnauthorized(err.Error()))
			return
		}
		a := authorizer.AttributesRecord{
			User: who.User, Verb: route.Verb, Namespace: r.PathValue("namespace"), Name: r.PathValue("name"), APIGroup: route.Group,
			APIVersion: route.Version, Resource: route.Resource, Subresource: route.Subresource, ResourceRequest: true, Path: r.URL.Path,
		}
		decision, reason, err := g.Authz.Authorize(r.Context(), a)
		switch {
		case err != nil:
			reply.Error(w, apierrors.NewInternalError(err))
		case decision != authorizer.DecisionAllow:
			reply.Error(w, forbidden(a, reason))
		default:
			next.ServeHTTP(w, r)
		}
	}))
}

// Named refuses names that Kubernetes could not have given, such as "a%2Fb", before anything is made of them.
func Named(parameters []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, parameter := range parameters {
			value := r.PathValue(parameter)
			if problems := content.IsPathSegmentName(value); value == "" || len(problems) > 0 {
				text := strings.Join(append(problems, "is not a name"), ", ")
				reply.Error(w, apierrors.NewBadRequest(fmt.Sprintf("%s %q: %s", parameter, value, text)))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
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

// Shield sets headers for browsers that get here, and turns a bug in a handler of the named server into an error of that request.
func Shield(server string, next http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("X-Frame-Options", "DENY")
		header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		header.Set("Cache-Control", "no-store")
		defer func() {
			p := recover()
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(http.ErrAbortHandler)
			} else if p != nil {
				log.Error("a request failed by a bug", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
				reply.Error(w, apierrors.NewInternalError(fmt.Errorf("a bug in %s; please report it with its log", server)))
			}
		}()
		next.ServeHTTP(w, r)
	})
}
