package uploadproxy

import (
	"crypto/rsa"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"time"

	"virtctl/internal/cdi/forward"
	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/token"
)

// endpoints are what can be asked of an upload server from outside.
func endpoints() []string {
	return []string{"upload", "upload-async", "upload-form", "upload-form-async"}
}

var bearer = regexp.MustCompile(`(?i)^Bearer\s+([A-Za-z0-9\-._~+/]+)$`)

// lead passes a request on to the upload server of a claim.
type lead func(w http.ResponseWriter, r *http.Request, namespace, claim, endpoint string)

// handler checks tokens.
type handler struct {
	key  func() (*rsa.PublicKey, error)
	lead lead
	log  *slog.Logger
}

// NewHandler answers the proxy's routes.
func NewHandler(key func() (*rsa.PublicKey, error), to lead, log *slog.Logger) http.Handler {
	h := &handler{key: key, lead: to, log: log}
	mux := http.NewServeMux()
	for _, version := range []string{"v1beta1", "v1alpha1"} {
		for _, endpoint := range endpoints() {
			path := "/" + version + "/" + endpoint
			mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { h.upload(w, r, endpoint) })
		}
	}
	return crossOrigin(mux)
}

func (h *handler) upload(w http.ResponseWriter, r *http.Request, endpoint string) {
	if r.Method != http.MethodPost && r.Method != http.MethodHead {
		w.WriteHeader(http.StatusNotFound) // as upload servers answer
		return
	}
	found := bearer.FindStringSubmatch(r.Header.Get("Authorization"))
	if found == nil {
		forward.Text(w, http.StatusBadRequest, "no bearer token: create an UploadTokenRequest, and send its status.token in the header Authorization")
		return
	}
	key, err := h.key()
	if err != nil {
		h.log.Error("cannot check tokens", "error", err)
		forward.Text(w, http.StatusInternalServerError, "tokens cannot be checked now; try again")
		return
	}
	payload, err := token.Verify(key, names.TokenIssuerAPI, found[1], time.Now())
	if err != nil {
		h.log.Info("refused a token", "from", r.RemoteAddr, "error", err)
		forward.Text(w, http.StatusUnauthorized, err.Error())
		return
	}
	if payload.Operation != token.Upload || payload.Name == "" || payload.Namespace == "" || payload.Resource.Resource != token.Claims().Resource {
		h.log.Info("refused a token for something else", "operation", payload.Operation, "resource", payload.Resource.Resource)
		forward.Text(w, http.StatusBadRequest, "the token is not one for uploads")
		return
	}
	h.lead(w, r, payload.Namespace, payload.Name, endpoint)
}

// crossOrigin lets pages of any origin upload: what counts is the token, which no browser adds by itself.
func crossOrigin(next http.Handler) http.Handler {
	expose := strings.Join([]string{names.HeaderOffset, names.HeaderLength, names.HeaderIdentity, names.HeaderDigest}, ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("X-Content-Type-Options", "nosniff")
		if r.Header.Get("Origin") == "" {
			next.ServeHTTP(w, r)
			return
		}
		header.Add("Vary", "Origin")
		header.Set("Access-Control-Allow-Origin", "*")
		wanted := r.Header.Get("Access-Control-Request-Method")
		if r.Method != http.MethodOptions || wanted == "" {
			header.Set("Access-Control-Expose-Headers", expose)
			next.ServeHTTP(w, r)
			return
		}
		header.Add("Vary", "Access-Control-Request-Method")
		header.Add("Vary", "Access-Control-Request-Headers")
		switch wanted {
		case http.MethodHead, http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
			header.Set("Access-Control-Allow-Methods", wanted)
			if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
				header.Set("Access-Control-Allow-Headers", asked)
			}
		}
		w.WriteHeader(http.StatusNoContent)
	})
}
