// Package metrics serves a worker's progress to the controller: https, with a certificate of the worker's own making, as CDI's contract has it.
package metrics

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"virtctl/internal/cdi/names"
)

// Progress is one counter of percents.
type Progress struct {
	name, owner string
	percent     atomic.Uint64 // bits of a float
}

// NewProgress makes the counter called name for the object with this UID.
func NewProgress(name, owner string) *Progress { return &Progress{name: name, owner: owner} }

// Set says how much of a total is done; without a total nothing is said. It never goes back.
func (p *Progress) Set(done, total int64) {
	if total <= 0 {
		return
	}
	p.SetPercent(float64(done) / float64(total) * 100)
}

// SetPercent says how much is done.
func (p *Progress) SetPercent(v float64) {
	v = max(0, min(v, 100))
	for {
		old := p.percent.Load()
		if v <= math.Float64frombits(old) || p.percent.CompareAndSwap(old, math.Float64bits(v)) {
			return
		}
	}
}

// Percent is what was said.
func (p *Progress) Percent() float64 { return math.Float64frombits(p.percent.Load()) }

// ServeHTTP writes the counter in Prometheus' text format.
func (p *Progress) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	owner := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(p.owner)
	_, _ = fmt.Fprintf(w, "# HELP %[1]s Percent of the work that is done\n# TYPE %[1]s counter\n%[1]s{%[2]s=\"%[3]s\"} %[4]g\n", p.name, names.MetricOwnerLabel, owner, p.Percent())
}

// Serve answers on address until ctx ends.
func (p *Progress) Serve(ctx context.Context, address string) (net.Addr, error) {
	cert, err := selfSigned()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serve metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+names.PathMetrics, p)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}}
	context.AfterFunc(ctx, func() { server.Close() })
	go func() { _ = server.ServeTLS(l, "", "") }()
	return l.Addr(), nil
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the metrics' key: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "cdi-worker"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the metrics' certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
