package testapi

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"

	"virtctl/internal/cdi/direct"
	"virtctl/internal/cdi/names"
)

// What UploadPlan.Direct can be.
const (
	// DirectReached is an upload server that can be called, DirectNowhere an address where nobody is, DirectOther one where somebody else is.
	DirectReached = "reached"
	DirectNowhere = "nowhere"
	DirectOther   = "other"
)

// direct tells a client where the upload server of a claim itself is.
func (s *Server) direct(w http.ResponseWriter, r *http.Request, claim string) {
	s.uploads.mu.Lock()
	plan := s.uploads.plan.Direct
	s.uploads.mu.Unlock()
	guests := &direct.Guests{}
	if plan == "" || guests.Admit(r.Header.Get(names.HeaderClientKey)) != nil {
		http.NotFound(w, r)
		return
	}
	pod := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if verb := strings.TrimPrefix(r.URL.Path, "/v1beta1/"); verb != "upload" && verb != "upload-async" {
			http.NotFound(w, r)
		} else if r.Method == http.MethodHead {
			s.uploads.head(w, claim)
		} else {
			s.take(w, r, claim)
		}
	}))
	pod.TLS = &tls.Config{
		ClientAuth: tls.RequireAnyClientCert, VerifyConnection: func(state tls.ConnectionState) error {
			if !guests.Know(state.PeerCertificates[0]) {
				return errors.New("nobody invited this client")
			}
			return nil
		},
	}
	pod.StartTLS()
	s.mu.Lock()
	s.pods = append(s.pods, pod)
	s.mu.Unlock()
	key := direct.Fingerprint(pod.Certificate())
	switch plan {
	case DirectNowhere:
		pod.Close()
	case DirectOther:
		key = r.Header.Get(names.HeaderClientKey)
	}
	w.Header().Set(names.HeaderAddress, pod.Listener.Addr().(*net.TCPAddr).String())
	w.Header().Set(names.HeaderServerKey, key)
	w.WriteHeader(http.StatusNoContent)
}
