package apiserver

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"virtctl/internal/aggregation"
	"virtctl/internal/cdi/hooks"
	"virtctl/internal/cdi/uploadapi"
	"virtctl/internal/reply"
	"virtctl/internal/version"
)

// api answers the aggregated API's routes.
type api struct {
	guard guard
	// sign makes the token that allows to upload into a claim.
	sign func(namespace, claim string) (string, error)
	// lead passes an upload on to the claim's upload server.
	lead func(w http.ResponseWriter, r *http.Request, namespace, claim, endpoint string)
}

// newHandler puts the server together from the tables.
func newHandler(a *api, reviews map[string]http.Handler, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	for _, v := range uploadapi.Versions() {
		base := "/apis/" + uploadapi.Group + "/" + v + "/namespaces/{namespace}/"
		tokens := base + uploadapi.TokenRequests
		mux.Handle("POST "+tokens, a.guard.wrap(access{version: v, verb: "create", resource: uploadapi.TokenRequests}, http.HandlerFunc(a.createToken)))
		mux.HandleFunc(tokens, wrongMethod)
		uploads := base + uploadapi.Uploads + "/{name}/" + uploadapi.Proxy + "/{endpoint}"
		for method, verb := range map[string]string{http.MethodPost: "create", http.MethodHead: "get"} {
			at := access{version: v, verb: verb, resource: uploadapi.Uploads, subresource: uploadapi.Proxy}
			mux.Handle(method+" "+uploads, a.guard.wrap(at, http.HandlerFunc(a.upload)))
		}
		mux.HandleFunc(uploads, wrongMethod)
	}
	for _, hook := range hooks.All() {
		mux.Handle("POST "+hook.Path, reviews[hook.Path])
		mux.HandleFunc(hook.Path, wrongMethod)
	}
	documents(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { notFound(w, r) })
	return guarded(mux, log)
}

func notFound(w http.ResponseWriter, r *http.Request) {
	reply.Error(w, apierrors.NewGenericServerResponse(http.StatusNotFound, r.Method, schema.GroupResource{Group: uploadapi.Group}, "",
		"the server could not find the requested resource "+r.URL.Path, 0, true))
}

// upload leads a request to the upload server of the claim in its path. Who got here may: no token is needed.
func (a *api) upload(w http.ResponseWriter, r *http.Request) {
	endpoint := r.PathValue("endpoint")
	if !slices.Contains([]string{"upload", "upload-async", "upload-form", "upload-form-async"}, endpoint) {
		notFound(w, r)
		return
	}
	a.lead(w, r, r.PathValue("namespace"), r.PathValue("name"), endpoint)
}

// documents are discovery and OpenAPI, which answer everybody.
func documents(mux *http.ServeMux) {
	release := version.Storage()
	serve := func(path string, document func() any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { reply.JSON(w, http.StatusOK, document()) })
	}
	serve("/{$}", func() any { return rootPaths() })
	serve("/apis", func() any { return groupList() })
	serve("/apis/"+uploadapi.Group, func() any { return group() })
	serve("/openapi/v2", func() any { return openAPIv2(release) })
	serve("/openapi/v3", func() any { return openAPIv3Index(release) })
	for _, v := range uploadapi.Versions() {
		serve("/apis/"+uploadapi.Group+"/"+v, func() any { return resourceList(v) })
		serve("/openapi/v3/apis/"+uploadapi.Group+"/"+v, func() any { return openAPIv3(v, release) })
	}
}

func wrongMethod(w http.ResponseWriter, r *http.Request) {
	reply.Error(w, apierrors.NewMethodNotSupported(schema.GroupResource{Group: uploadapi.Group, Resource: r.URL.Path}, r.Method))
}

// guarded sets headers for browsers that get here, and turns a bug in a handler into an error of that request.
func guarded(next http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Cache-Control", "no-store")
		defer func() {
			if p := recover(); p == http.ErrAbortHandler { //nolint:errorlint // a panic's value, compared as net/http does
				panic(p)
			} else if p != nil {
				log.Error("a request failed by a bug", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
				reply.Error(w, apierrors.NewInternalError(fmt.Errorf("a bug in cdi-apiserver; please report it with its log")))
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// access is what a route takes. The review is made from it, never from the request's path, so that what is reviewed is what is
// served.
type access struct{ version, verb, resource, subresource string }

// guard lets only those through to a route who may use it.
type guard struct {
	authn authenticator.Request
	authz authorizer.Authorizer
	log   *slog.Logger
}

func (g guard) wrap(at access, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, parameter := range []string{"namespace", "name"} {
			value := r.PathValue(parameter)
			if parameter == "name" && at.subresource == "" {
				continue
			}
			if problems := content.IsPathSegmentName(value); value == "" || len(problems) > 0 {
				reply.Error(w, apierrors.NewBadRequest(fmt.Sprintf("%s %q is not a name %s", parameter, value, strings.Join(problems, ", "))))
				return
			}
		}
		who, err := aggregation.Identify(g.authn, r)
		if err != nil {
			g.log.Info("refused a request", "path", r.URL.Path, "from", r.RemoteAddr, "error", err)
			reply.Error(w, apierrors.NewUnauthorized(err.Error()))
			return
		}
		a := authorizer.AttributesRecord{
			User: who.User, Verb: at.verb, Namespace: r.PathValue("namespace"), Name: r.PathValue("name"), APIGroup: uploadapi.Group,
			APIVersion: at.version, Resource: at.resource, Subresource: at.subresource, ResourceRequest: true, Path: r.URL.Path,
		}
		decision, reason, err := g.authz.Authorize(r.Context(), a)
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
