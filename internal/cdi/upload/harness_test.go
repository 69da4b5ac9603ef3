package upload

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/stream"
	"virtctl/internal/cdi/worker/metrics"
	"virtctl/internal/cdi/worker/volume"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := x509.ParseCertificate(der)
	return &authority{cert, key}
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// leaf is a certificate and its key, PEM.
func (a *authority) leaf(t testing.TB, name string) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := x509.MarshalPKCS8PrivateKey(k)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

// target is a claim and the servers on it, one after the other.
type target struct {
	t       testing.TB
	dir     string
	ca      *authority
	config  Config
	url     string
	stop    context.CancelCauseFunc
	results chan outcome
}

type outcome struct {
	Result
	err error
}

func newTarget(t testing.TB) *target {
	t.Helper()
	dir := t.TempDir()
	g := &target{t: t, dir: dir, ca: newAuthority(t)}
	cert, key := g.ca.leaf(t, "server")
	for name, raw := range map[string][]byte{"tls.crt": cert, "tls.key": key, "ca.crt": g.ca.pem()} {
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	vol, err := volume.Paths{Data: data, Device: filepath.Join(dir, "none"), Scratch: filepath.Join(dir, "scratch"), Temp: dir}.Find()
	if err != nil {
		t.Fatal(err)
	}
	g.config = Config{
		Volume: vol, Options: stream.Options{Available: 1 << 30, CheckpointBytes: 1 << 20, CheckpointInterval: time.Millisecond}, ClientName: names.UploadClientName, Logf: t.Logf,
		Progress: metrics.NewProgress(names.MetricImportProgress, "uid"),
		TLS:      TLS{CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key"), ClientCAFile: filepath.Join(dir, "ca.crt")},
	}
	return g
}

// start runs a server: a pod.
func (g *target) start() *target {
	g.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	g.url, g.stop, g.results = "https://"+l.Addr().String(), cancel, make(chan outcome, 1)
	results := g.results
	server := New(g.config)
	go func() {
		res, err := server.Run(ctx, l)
		results <- outcome{res, err}
	}()
	g.t.Cleanup(func() { cancel(errors.New("the test ends")) })
	return g
}

func (g *target) client(name string, ca *authority) *http.Client {
	g.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(g.ca.cert)
	config := &tls.Config{RootCAs: roots}
	if name != "" {
		certPEM, keyPEM := ca.leaf(g.t, name)
		cert, err := tls.X509KeyPair(certPEM, keyPEM)
		if err != nil {
			g.t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	transport := &http.Transport{TLSClientConfig: config}
	g.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// send makes a request as the uploadproxy does.
func (g *target) send(method, path string, body io.Reader, header ...string) *reply {
	g.t.Helper()
	resp, err := g.try(method, path, body, header...)
	if err != nil {
		g.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp
}

func (g *target) try(method, path string, body io.Reader, header ...string) (*reply, error) {
	req, err := http.NewRequest(method, g.url+path, body)
	if err != nil {
		g.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := g.client(names.UploadClientName, g.ca).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return &reply{resp.StatusCode, resp.Status, resp.Header, string(text)}, nil
}

// reply is a response that was read.
type reply struct {
	StatusCode int
	Status     string
	Header     http.Header
	text       string
}

func (g *target) disk(want []byte) {
	g.t.Helper()
	got, err := os.ReadFile(g.config.Volume.Disk)
	if err != nil || sha256.Sum256(got) != sha256.Sum256(want) {
		g.t.Fatalf("the disk is another one: %d of %d bytes, %v", len(got), len(want), err)
	}
	entries, _ := os.ReadDir(g.config.Volume.Dir)
	for _, e := range entries {
		if e.Name() != filepath.Base(g.config.Volume.Disk) && e.Name() != names.JournalFile {
			g.t.Fatalf("more than the disk and its journal is left: %v", entries)
		}
	}
}

func (g *target) mustEnd() Result {
	g.t.Helper()
	select {
	case out := <-g.results:
		if out.err != nil {
			g.t.Fatal(out.err)
		}
		return out.Result
	case <-time.After(20 * time.Second):
		g.t.Fatal("the server does not end by itself")
		return Result{}
	}
}
