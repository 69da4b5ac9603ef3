package upload

import (
	"net"
	"net/http"

	"virtctl/internal/cdi/linger"
	"virtctl/internal/cdi/names"
)

// proxied tells by the certificate that a request comes from those who lead uploads here. What was signed by another authority has not come
// as far as this, and a guest's certificate was not signed by any.
func (s *Server) proxied(r *http.Request) bool {
	return r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && !s.guest(r) && r.TLS.PeerCertificates[0].Subject.CommonName == s.config.ClientName
}

// guest tells that a request comes from a client that was invited.
func (s *Server) guest(r *http.Request) bool {
	return r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && s.guests.Know(r.TLS.PeerCertificates[0])
}

// invite lets the client come directly on whose behalf a proxy asks, and tells it where to and whom it will meet. Guests invite nobody.
func (s *Server) invite(w http.ResponseWriter, r *http.Request) {
	if !s.proxied(r) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	address, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		linger.Text(w, http.StatusNotFound, "this upload server does not know its address")
		return
	}
	own, err := s.config.TLS.fingerprint()
	if err != nil {
		linger.Text(w, http.StatusInternalServerError, err.Error())
		return
	}
	if err := s.guests.Admit(r.Header.Get(names.HeaderClientKey)); err != nil {
		linger.Text(w, http.StatusBadRequest, names.HeaderClientKey+": "+err.Error())
		return
	}
	w.Header().Set(names.HeaderAddress, address.String())
	w.Header().Set(names.HeaderServerKey, own)
	w.WriteHeader(http.StatusNoContent)
}
