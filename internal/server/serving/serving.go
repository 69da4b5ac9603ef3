// Package serving is the one port of a role: metrics and health over TLS.
package serving

import (
	"crypto/tls"
	"net/http"
	"path/filepath"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// Options serve /metrics, /healthz and /readyz on a port with the certificate in dir (tls.crt, tls.key) or, before it is there,
// one of our own with this name. Port 0 serves nothing.
func Options(port int, dir, name string) metricsserver.Options {
	if port == 0 {
		return metricsserver.Options{BindAddress: "0"}
	}
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) })
	return metricsserver.Options{
		BindAddress:   ":" + strconv.Itoa(port),
		SecureServing: true,
		// A replica that waits for its turn is ready: it takes over when the leader goes.
		ExtraHandlers: map[string]http.Handler{"/healthz": ok, "/readyz": ok},
		TLSOpts:       []func(*tls.Config){func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }, withCertificate(dir, name)},
	}
}

func withCertificate(dir, name string) func(*tls.Config) {
	return func(c *tls.Config) {
		own := &selfSigned{name: name}
		c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			// Read anew for each connection, of which there are few: the Secret may appear late and is rotated.
			pair, err := tls.LoadX509KeyPair(filepath.Join(dir, corev1.TLSCertKey), filepath.Join(dir, corev1.TLSPrivateKeyKey))
			if err == nil {
				return &pair, nil
			}
			return own.get()
		}
	}
}
