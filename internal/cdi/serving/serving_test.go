package serving

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"virtctl/internal/cdi/tlsprofile"
	"virtctl/internal/certificates"
	"virtctl/internal/tlsfile"
)

// running is a server with its clients' trust.
type running struct {
	server  *Server
	url     string
	roots   *x509.CertPool
	stop    context.CancelFunc
	ended   chan error
	profile atomic.Pointer[tlsprofile.Profile]
	issue   func(name string)
}

func run(t *testing.T, handler http.HandlerFunc) *running {
	t.Helper()
	dir, now := t.TempDir(), time.Now()
	ca, err := certificates.NewAuthority("ca", now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{roots: x509.NewCertPool(), ended: make(chan error, 1)}
	r.roots.AppendCertsFromPEM(ca.Cert)
	r.issue = func(name string) {
		pair, err := certificates.Issue(ca, certificates.Role{CommonName: name, DNSNames: []string{"server.example", name}, Server: true}, now, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		for file, data := range map[string][]byte{"tls.crt": pair.Cert, "tls.key": pair.Key} {
			path := filepath.Join(dir, file)
			if err := errors.Join(os.WriteFile(path+".new", data, 0o600), os.Rename(path+".new", path)); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.issue("first.example")
	usual := tlsprofile.Of(nil)
	r.profile.Store(&usual)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.url = "https://" + listener.Addr().String()
	r.server = &Server{
		Name: "test", Handler: handler, Certificate: tlsfile.Mounted(dir),
		Profile: func() tlsprofile.Profile { return *r.profile.Load() }, Drain: time.Minute,
		Log:    slog.New(slog.NewTextHandler(io.Discard, nil)),
		Listen: func(context.Context) (net.Listener, error) { return listener, nil },
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() { r.ended <- r.server.Run(ctx) }()
	t.Cleanup(stop)
	return r
}

func (r *running) client(config *tls.Config, h2 bool) *http.Client {
	config.RootCAs, config.ServerName = r.roots, "server.example"
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: h2, DisableKeepAlives: true}}
}

func get(t *testing.T, c *http.Client, method, url string, body io.Reader) (*http.Response, string, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.Do(request)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	return response, string(text), err
}

// Uploads come over HTTP/1.1 from outside and over HTTP/2 from the API server; both find the certificate of the moment.
func TestBothProtocolsAndNewCertificates(t *testing.T) {
	r := run(t, func(w http.ResponseWriter, q *http.Request) {
		n, _ := io.Copy(io.Discard, q.Body)
		_, _ = io.WriteString(w, q.Proto+" "+strings.Repeat("x", int(n>>20)))
	})
	for _, tc := range []struct {
		h2   bool
		want string
	}{{false, "HTTP/1.1 xxxxxxxx"}, {true, "HTTP/2.0 xxxxxxxx"}} {
		_, text, err := get(t, r.client(&tls.Config{MinVersion: tls.VersionTLS12}, tc.h2), http.MethodPost, r.url, strings.NewReader(strings.Repeat("b", 8<<20)))
		if err != nil || text != tc.want {
			t.Errorf("%q %v", text, err)
		}
	}
	r.issue("a-second-name.example")
	response, _, err := get(t, r.client(&tls.Config{MinVersion: tls.VersionTLS12}, false), http.MethodGet, r.url+"/healthz", nil)
	if err != nil || response.TLS.PeerCertificates[0].Subject.CommonName != "a-second-name.example" {
		t.Errorf("after a renewal: %v", err)
	}
	_, text, err := get(t, r.client(&tls.Config{MinVersion: tls.VersionTLS12}, false), http.MethodGet, r.url+"/metrics", nil)
	if err != nil || !strings.Contains(text, `virtctl_cdi_server_ready{server="test"} 1`) {
		t.Errorf("metrics: %v", err)
	}
}

// An administrator who makes TLS stricter is obeyed at once.
func TestProfileCounts(t *testing.T) {
	r := run(t, func(http.ResponseWriter, *http.Request) {})
	old := &tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12}
	if _, _, err := get(t, r.client(old.Clone(), false), http.MethodGet, r.url, nil); err != nil {
		t.Errorf("TLS 1.2 with the usual profile: %v", err)
	}
	modern := tlsprofile.Of(&cdiv1.TLSSecurityProfile{Type: cdiv1.TLSProfileModernType})
	r.profile.Store(&modern)
	if _, _, err := get(t, r.client(old.Clone(), false), http.MethodGet, r.url, nil); err == nil {
		t.Error("TLS 1.2 with the modern profile")
	}
}

// A server that is replaced takes nobody in any more, and lets the open upload end.
func TestUploadsDrain(t *testing.T) {
	inside := make(chan struct{})
	r := run(t, func(w http.ResponseWriter, q *http.Request) {
		close(inside)
		n, _ := io.Copy(io.Discard, q.Body)
		_, _ = io.WriteString(w, strings.Repeat("x", int(n)))
	})
	body, pipe := io.Pipe()
	answer := make(chan string, 1)
	go func() {
		_, text, err := get(t, r.client(&tls.Config{MinVersion: tls.VersionTLS12}, false), http.MethodPost, r.url, body)
		if err != nil {
			text = err.Error()
		}
		answer <- text
	}()
	_, _ = pipe.Write([]byte("a"))
	<-inside
	r.stop()
	for r.server.Ready() == nil {
		<-time.After(time.Millisecond)
	}
	_, _ = pipe.Write([]byte("b"))
	_ = pipe.Close()
	if got := <-answer; got != "xx" {
		t.Errorf("the open upload: %q", got)
	}
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}
