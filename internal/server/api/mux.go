package api

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

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
	guard        access.Guard
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
			mux.Handle(r.Method+" "+path, h.guard.Wrap(r, v, h.subresources[r.Handler]))
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
	return guarded(mux, h.log)
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

// guarded sets headers for browsers that get here, and turns a bug in a handler into an error of that request.
func guarded(next http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("X-Frame-Options", "DENY")
		header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		header.Set("Cache-Control", "no-store")
		defer func() {
			if p := recover(); p == http.ErrAbortHandler { //nolint:errorlint // a panic's value, compared as net/http does
				panic(p)
			} else if p != nil {
				log.Error("a request failed by a bug", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
				reply.Error(w, apierrors.NewInternalError(fmt.Errorf("a bug in virt-api; please report it with virt-api's log")))
			}
		}()
		next.ServeHTTP(w, r)
	})
}
