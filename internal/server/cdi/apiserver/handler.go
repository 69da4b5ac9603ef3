package apiserver

import (
	"log/slog"
	"net/http"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"virtctl/internal/aggregation"
	"virtctl/internal/cdi/hooks"
	"virtctl/internal/cdi/uploadapi"
	"virtctl/internal/reply"
	"virtctl/internal/version"
)

// api answers the aggregated API's routes.
type api struct {
	guard aggregation.Guard
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
		mux.Handle("POST "+tokens, a.guard.Wrap(tokenRoute(v), http.HandlerFunc(a.createToken)))
		mux.HandleFunc(tokens, wrongMethod)
		uploads := base + uploadapi.Uploads + "/{name}/" + uploadapi.Proxy + "/{endpoint}"
		for method, verb := range map[string]string{http.MethodPost: "create", http.MethodHead: "get"} {
			mux.Handle(method+" "+uploads, a.guard.Wrap(uploadRoute(v, verb), http.HandlerFunc(a.upload)))
		}
		mux.HandleFunc(uploads, wrongMethod)
	}
	for _, hook := range hooks.All() {
		mux.Handle("POST "+hook.Path, reviews[hook.Path])
		mux.HandleFunc(hook.Path, wrongMethod)
	}
	documents(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { notFound(w, r) })
	return aggregation.Shield("cdi-apiserver", mux, log)
}

func tokenRoute(version string) aggregation.Route {
	return aggregation.Route{
		Verb: "create", Group: uploadapi.Group, Version: version, Resource: uploadapi.TokenRequests, Parameters: []string{"namespace"},
	}
}

func uploadRoute(version, verb string) aggregation.Route {
	return aggregation.Route{
		Verb: verb, Group: uploadapi.Group, Version: version, Resource: uploadapi.Uploads, Subresource: uploadapi.Proxy,
		Parameters: []string{"namespace", "name"},
	}
}

func notFound(w http.ResponseWriter, r *http.Request) {
	reply.Error(w, apierrors.NewGenericServerResponse(http.StatusNotFound, r.Method, schema.GroupResource{Group: uploadapi.Group}, "",
		"the server could not find the requested resource "+r.URL.Path, 0, true))
}

// upload leads a request to the upload server of the claim in its path. Who got here may: no token is needed.
func (a *api) upload(w http.ResponseWriter, r *http.Request) {
	endpoint := r.PathValue("endpoint")
	known := []string{"upload", "upload-async", "upload-form", "upload-form-async"}
	// HEAD, which fewer permissions do for, invites nobody.
	if r.Method == http.MethodPost {
		known = append(known, uploadapi.Direct)
	}
	if !slices.Contains(known, endpoint) {
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
