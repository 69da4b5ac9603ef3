package api

import (
	"fmt"
	"log/slog"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"virtctl/internal/aggregation"
	"virtctl/internal/clusterconfig"
	"virtctl/internal/reply"
	"virtctl/internal/server/api/access"
	"virtctl/internal/server/api/admission"
	"virtctl/internal/server/api/routes"
	"virtctl/internal/server/serving"
	"virtctl/internal/version"
)

// handlers are the parts of the server.
type handlers struct {
	guard        aggregation.Guard
	subresources map[routes.Handler]http.Handler
	reviews      map[admission.Handler]http.Handler
	health       *health
	config       *clusterconfig.Source
	metrics      http.Handler
	log          *slog.Logger
}

// newHandler puts the server together from the tables.
func newHandler(h handlers) http.Handler {
	mux := http.NewServeMux()
	known := map[string]bool{}
	for _, v := range routes.Versions() {
		for _, r := range routes.All() {
			path := r.Path(v)
			mux.Handle(r.Method+" "+path, access.Wrap(h.guard, r, v, h.subresources[r.Handler]))
			if !known[path] {
				mux.HandleFunc(path, wrongMethod)
			}
			known[path] = true
		}
	}
	for _, hook := range admission.Hooks() {
		mux.Handle("POST "+hook.Path, h.reviews[hook.Handler])
		mux.HandleFunc(hook.Path, wrongMethod)
	}
	documents(mux)
	mux.Handle("GET /healthz", serving.Health(h.config))
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { plain(w, h.health.ready()) })
	mux.Handle("GET /metrics", h.metrics)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		reply.Error(w, apierrors.NewGenericServerResponse(http.StatusNotFound, r.Method, schema.GroupResource{Group: routes.Group}, "",
			"the server could not find the requested resource "+r.URL.Path, 0, true))
	})
	return aggregation.Shield("virt-api", mux, h.log)
}

// documents are discovery and OpenAPI, which answer everybody.
func documents(mux *http.ServeMux) {
	release := version.Get().GitVersion
	serve := func(path string, document any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { reply.JSON(w, http.StatusOK, document) })
	}
	serve("/{$}", routes.RootPaths())
	serve("/apis", routes.APIGroupList())
	serve("/apis/"+routes.Group, routes.APIGroup())
	// The OpenAPI documents are asked for a few times in a server's life; made when asked, they take no memory in between.
	lazy := func(path string, document func() any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { reply.JSON(w, http.StatusOK, document()) })
	}
	lazy("/openapi/v2", func() any { return routes.OpenAPIv2(release) })
	lazy("/openapi/v3", func() any { return routes.OpenAPIv3Index(release) })
	for _, v := range routes.Versions() {
		serve("/apis/"+routes.Group+"/"+v, routes.ResourceList(v))
		lazy("/openapi/v3/apis/"+routes.Group+"/"+v, func() any { return routes.OpenAPIv3(v, release) })
	}
}

func plain(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprintln(w, err)
		return
	}
	_, _ = fmt.Fprintln(w, "ok")
}

func wrongMethod(w http.ResponseWriter, r *http.Request) {
	reply.Error(w, apierrors.NewMethodNotSupported(schema.GroupResource{Group: routes.Group, Resource: r.URL.Path}, r.Method))
}
