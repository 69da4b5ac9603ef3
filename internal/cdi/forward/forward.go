package forward

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"

	"virtctl/internal/cdi/dial"
	"virtctl/internal/cdi/linger"
	"virtctl/internal/cdi/names"
	"virtctl/internal/tlsfile"
)

const (
	dialTimeout = 10 * time.Second
	// goodbye is how long an upload server's last words may take to get through after it has ended.
	goodbye = 5 * time.Second
	buffer  = 64 << 10
)

// Forwarder passes uploads on.
type Forwarder struct {
	Finder *Finder
	// Certificate is what is shown to upload servers, Authorities who signs theirs.
	Certificate *tlsfile.KeyPair
	Authorities *tlsfile.Bundle
	Log         *slog.Logger
	// Port upload servers listen on.
	Port int
}

// Serve passes a request on to the upload server of a claim. Endpoint is upload, upload-async, upload-form,
// upload-form-async or upload-direct. What the client sends is never held back: it goes on as it comes.
func (f *Forwarder) Serve(w http.ResponseWriter, r *http.Request, namespace, claim, endpoint string) {
	server, err := f.Finder.Find(r.Context(), namespace, claim)
	if err != nil {
		f.refuse(w, r, err)
		return
	}
	path := "/v1beta1/" + endpoint
	if server.Archive && path != names.PathUploadDirect {
		path = names.PathUploadArchive
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	go f.watchOver(ctx, server, cancel)
	x, r := linger.Begin(w, r.WithContext(ctx))
	f.proxy(server, path).ServeHTTP(w, r)
	// An upload server that refuses does so in the middle of the body.
	x.End(linger.Patience)
}

// watchOver ends a request whose upload server is gone without a word, as when its node was lost.
func (f *Forwarder) watchOver(ctx context.Context, server *Server, cancel context.CancelCauseFunc) {
	if err := f.Finder.Gone(ctx, server); err != nil {
		return // the request has ended, or the watch cannot be had: then TCP must notice
	}
	last := time.NewTimer(goodbye)
	defer last.Stop()
	select {
	case <-ctx.Done():
	case <-last.C:
		cancel(errors.New("the upload server's pod has ended"))
	}
}

func (f *Forwarder) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var refusal *Refusal
	if !errors.As(err, &refusal) {
		f.Log.Error("cannot look for an upload server", "error", err)
		refusal = &Refusal{Code: http.StatusInternalServerError, Text: "cannot look for the upload server: " + err.Error()}
	}
	f.Log.Info("refused an upload", "path", r.URL.Path, "reason", refusal.Text)
	Text(w, refusal.Code, refusal.Text)
}

// Text answers in words. They may have been put together from what a client said.
func Text(w http.ResponseWriter, code int, text string) {
	linger.Text(w, code, html.EscapeString(text))
}

func (f *Forwarder) proxy(server *Server, path string) *httputil.ReverseProxy {
	host := names.UploadHost(server.Claim, server.Namespace)
	return &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL = &url.URL{Scheme: "https", Host: host, Path: path, RawQuery: p.In.URL.RawQuery}
			p.Out.Host = host
			clean(p.Out.Header)
		},
		Transport:     f.transport(server, host),
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(f.Log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if cause := context.Cause(r.Context()); cause != nil {
				err = cause
			}
			f.Log.Info("an upload was cut off", "namespace", server.Namespace, "claim", server.Claim, "error", err)
			// Not to be read on: the client's body has no place to go.
			w.Header().Set("Connection", "close")
			Text(w, http.StatusBadGateway, "the upload server went away ("+err.Error()+"): send again, HEAD tells from where")
		},
	}
}

// clean takes out what is none of the upload server's business: it runs in a namespace of users, who must not see how anybody
// was let in.
func clean(h http.Header) {
	h.Del("Authorization")
	h.Del("Cookie")
	h.Del("Upgrade")
	for name := range h {
		if strings.HasPrefix(name, "X-Remote-") || strings.HasPrefix(name, "Impersonate-") || strings.HasPrefix(name, "X-Forwarded-") {
			h.Del(name)
		}
	}
}

// transport makes one connection to the pod and shows and wants the contract's certificates: the pod is found by its address,
// and known by the name of its Service.
func (f *Forwarder) transport(server *Server, host string) http.RoundTripper {
	return &http.Transport{
		DisableKeepAlives: true, DisableCompression: true, WriteBufferSize: buffer, ReadBufferSize: buffer,
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			raw, err := dial.Dialer(dialTimeout).DialContext(ctx, "tcp", net.JoinHostPort(server.Address, strconv.Itoa(f.Port)))
			if err != nil {
				return nil, fmt.Errorf("reach the upload server: %w", err)
			}
			secure := tls.Client(raw, f.tlsConfig(host))
			if err := secure.HandshakeContext(ctx); err != nil {
				_ = raw.Close()
				return nil, fmt.Errorf("reach the upload server: %w", err)
			}
			return secure, nil
		},
		// A client that waits to be asked for its body shall not send it when the answer is no.
		ExpectContinueTimeout: time.Minute,
	}
}

func (f *Forwarder) tlsConfig(host string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: host, GetClientCertificate: f.Certificate.Client,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies, with the authorities as they are now
		VerifyConnection: func(state tls.ConnectionState) error {
			roots, err := f.Authorities.Get()
			if err != nil {
				return err
			}
			rest := x509.NewCertPool()
			for _, c := range state.PeerCertificates[1:] {
				rest.AddCert(c)
			}
			_, err = state.PeerCertificates[0].Verify(x509.VerifyOptions{
				Roots: roots, Intermediates: rest, DNSName: host, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
			})
			return err
		},
	}
}
