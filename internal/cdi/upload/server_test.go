package upload

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"

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

func newAuthority(t *testing.T) *authority {
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
func (a *authority) leaf(t *testing.T, name string) (cert, key []byte) {
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
	t       *testing.T
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

func newTarget(t *testing.T) *target {
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
func (g *target) send(method, path string, body io.Reader, header ...string) *http.Response {
	g.t.Helper()
	resp, err := g.try(method, path, body, header...)
	if err != nil {
		g.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp
}

func (g *target) try(method, path string, body io.Reader, header ...string) (*http.Response, error) {
	req, err := http.NewRequest(method, g.url+path, body)
	if err != nil {
		g.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := g.client(names.UploadClientName, g.ca).Do(req)
	if err == nil {
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(text))
	}
	return resp, err
}

func answer(r *http.Response) string { raw, _ := io.ReadAll(r.Body); return string(raw) }

func (g *target) disk(want []byte) {
	g.t.Helper()
	got, err := os.ReadFile(g.config.Volume.Disk)
	if err != nil || sha256.Sum256(got) != sha256.Sum256(want) {
		g.t.Fatalf("the disk is another one: %d of %d bytes, %v", len(got), len(want), err)
	}
	if entries, _ := os.ReadDir(g.config.Volume.Dir); len(entries) != 1 {
		g.t.Fatalf("more than the disk is left: %v", entries)
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

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

func TestUploadOnEveryPath(t *testing.T) {
	data := random(3 << 20)
	for _, path := range []string{"/v1beta1/upload", "/v1alpha1/upload", "/v1beta1/upload-async", "/v1alpha1/upload-async", "/v1beta1/upload-form", "/v1beta1/upload-form-async"} {
		t.Run(path, func(t *testing.T) {
			g := newTarget(t).start()
			if r := g.send(http.MethodHead, path, nil); r.StatusCode != 200 || r.Header.Get(names.HeaderOffset) != "0" {
				t.Fatalf("HEAD: %s %v", r.Status, r.Header)
			}
			var content io.Reader = bytes.NewReader(data)
			kind := "application/octet-stream"
			if strings.Contains(path, "form") {
				content, kind = form(t, data)
			}
			r := g.send(http.MethodPost, path, content, "Content-Type", kind)
			if r.StatusCode != 200 || r.Header.Get(names.HeaderDigest) != digest(data) {
				t.Fatalf("%s %v %s", r.Status, r.Header, answer(r))
			}
			if res := g.mustEnd(); res.SourceBytes != int64(len(data)) || res.Clone || res.DeadlinePassed {
				t.Fatalf("%+v", res)
			}
			g.disk(data)
		})
	}
}

func form(t *testing.T, data []byte) (io.Reader, string) {
	t.Helper()
	b := &bytes.Buffer{}
	w := multipart.NewWriter(b)
	w.WriteField("other", "x")
	part, err := w.CreateFormFile(names.FormField, "disk.img")
	if err != nil {
		t.Fatal(err)
	}
	part.Write(data)
	w.Close()
	return b, w.FormDataContentType()
}

func TestWhoMayUpload(t *testing.T) {
	g := newTarget(t).start()
	for name, c := range map[string]*http.Client{
		"no certificate": g.client("", nil), "another name": g.client("somebody", g.ca),
	} {
		for _, method := range []string{http.MethodPost, http.MethodHead} {
			req, _ := http.NewRequest(method, g.url+"/v1beta1/upload", strings.NewReader("x"))
			r, err := c.Do(req)
			if err != nil || r.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s %s: %v, %v", method, name, r, err)
			}
		}
	}
	if r, err := g.client(names.UploadClientName, newAuthority(t)).Get(g.url + "/healthz"); err == nil {
		t.Errorf("a certificate of another authority: %s", r.Status)
	}
	r, err := g.client("", nil).Get(g.url + "/healthz")
	if err != nil || r.StatusCode != 200 {
		t.Errorf("the kubelet's question: %v, %v", r, err)
	}
	for _, path := range []string{"/v1beta1/upload", "/v1beta1/other", "/"} {
		if r := g.send(http.MethodGet, path, nil); r.StatusCode != http.StatusNotFound {
			t.Errorf("GET %s: %s", path, r.Status)
		}
	}
}

// A pipe that stops half-way, as a client does that is killed.
type cut struct {
	r io.Reader
	n int64
}

func (c *cut) Read(p []byte) (int, error) {
	if c.n <= 0 {
		return 0, errors.New("killed")
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.n)])
	c.n -= int64(n)
	return n, err
}

func (g *target) offset() int64 {
	g.t.Helper()
	r := g.send(http.MethodHead, "/v1beta1/upload", nil)
	n, err := strconv.ParseInt(r.Header.Get(names.HeaderOffset), 10, 64)
	if err != nil {
		g.t.Fatalf("%s %v", r.Status, r.Header)
	}
	return n
}

// The client is killed, and then the pod: what arrived stays.
func TestCutUploadGoesOn(t *testing.T) {
	data := random(16 << 20)
	g := newTarget(t).start()
	length := fmt.Sprint(len(data))
	if r, err := g.try(http.MethodPost, "/v1beta1/upload", &cut{bytes.NewReader(data), 9 << 20}, names.HeaderIdentity, "mine", names.HeaderLength, length); err == nil {
		t.Fatalf("a cut upload: %s %s", r.Status, answer(r))
	}
	// The server reads what was sent before the cut.
	for g.offset() < 8<<20 {
	}
	g.stop(errors.New("terminated"))
	if out := <-g.results; out.err == nil {
		t.Fatalf("a pod that is ended says it is done: %+v", out)
	}
	g.start()
	r := g.send(http.MethodHead, "/v1beta1/upload", nil)
	if r.Header.Get(names.HeaderIdentity) != "mine" || r.Header.Get(names.HeaderLength) != length {
		t.Fatalf("%v", r.Header)
	}
	offset := g.offset()
	if offset < 8<<20 || offset > 9<<20 {
		t.Fatalf("%d of %d bytes are safe", offset, 9<<20)
	}
	for name, h := range map[string][]string{
		"another offset":   {names.HeaderIdentity, "mine", names.HeaderOffset, "5"},
		"another content":  {names.HeaderIdentity, "other", names.HeaderOffset, fmt.Sprint(offset)},
		"another length":   {names.HeaderIdentity, "mine", names.HeaderOffset, fmt.Sprint(offset), names.HeaderLength, "99999999"},
		"without identity": {names.HeaderOffset, fmt.Sprint(offset)},
	} {
		r := g.send(http.MethodPost, "/v1beta1/upload", bytes.NewReader(data[:10]), h...)
		if r.StatusCode != http.StatusConflict && r.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s", name, r.Status)
		}
		if name == "another offset" && r.Header.Get(names.HeaderOffset) != fmt.Sprint(offset) {
			t.Errorf("the right offset is missing: %v", r.Header)
		}
	}
	r = g.send(http.MethodPost, "/v1beta1/upload", bytes.NewReader(data[offset:]), names.HeaderIdentity, "mine", names.HeaderLength, length, names.HeaderOffset, fmt.Sprint(offset))
	if r.StatusCode != 200 || r.Header.Get(names.HeaderDigest) != digest(data) {
		t.Fatalf("%s %v %s", r.Status, r.Header, answer(r))
	}
	g.mustEnd()
	g.disk(data)
}

// hanging gives its data and then nothing, until it is closed.
type hanging struct {
	io.Reader
	ended chan struct{}
}

func (h *hanging) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p)
	if err == nil {
		return n, nil
	}
	<-h.ended
	return 0, io.ErrUnexpectedEOF
}

func TestOneUploadAtATime(t *testing.T) {
	data := random(8 << 20)
	g := newTarget(t).start()
	h := &hanging{bytes.NewReader(data[:5<<20]), make(chan struct{})}
	first := make(chan error, 1)
	go func() {
		r, err := g.try(http.MethodPost, "/v1beta1/upload", h, names.HeaderIdentity, "mine", names.HeaderLength, fmt.Sprint(len(data)))
		if err == nil && r.StatusCode != 200 {
			err = errors.New(r.Status)
		}
		first <- err
	}()
	// The first one is at work when a checkpoint is there.
	for g.offset() == 0 {
	}
	if r := g.send(http.MethodPost, "/v1beta1/upload", bytes.NewReader(data)); r.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("a second upload: %s", r.Status)
	}
	// The same content over a new connection takes over: the old one may be dead without the server knowing.
	offset := g.offset()
	r := g.send(http.MethodPost, "/v1beta1/upload", bytes.NewReader(data[offset:]), names.HeaderIdentity, "mine", names.HeaderLength, fmt.Sprint(len(data)), names.HeaderOffset, fmt.Sprint(offset))
	if r.StatusCode == http.StatusConflict {
		offset, _ = strconv.ParseInt(r.Header.Get(names.HeaderOffset), 10, 64)
		r = g.send(http.MethodPost, "/v1beta1/upload", bytes.NewReader(data[offset:]), names.HeaderIdentity, "mine", names.HeaderLength, fmt.Sprint(len(data)), names.HeaderOffset, fmt.Sprint(offset))
	}
	close(h.ended)
	if r.StatusCode != 200 || r.Header.Get(names.HeaderDigest) != digest(data) {
		t.Fatalf("%s %s", r.Status, answer(r))
	}
	if <-first == nil {
		t.Error("the first upload was told that it is complete")
	}
	g.mustEnd()
	g.disk(data)
}

func TestRefusedUploads(t *testing.T) {
	g := newTarget(t)
	g.config.Options.Available = 1 << 20
	g.start()
	backing := make([]byte, 1<<16)
	copy(backing, "QFI\xfb\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x68\x00\x00\x00\x0b\x00\x00\x00\x10")
	for name, c := range map[string]struct {
		path string
		data []byte
		code int
		text string
	}{
		"too large":    {"/v1beta1/upload", random(2 << 20), 400, "Saving stream failed: effective image size is larger than the reported available storage"},
		"backing file": {"/v1beta1/upload", backing, 400, "Saving stream failed: "},
		"empty":        {"/v1beta1/upload", nil, 400, "Saving stream failed: the upload is empty"},
		"no form":      {"/v1beta1/upload-form", []byte("x"), 400, "no form"},
		"no archive":   {"/v1beta1/upload-archive", random(1000), 400, "Saving stream failed: "},
	} {
		r := g.send(http.MethodPost, c.path, bytes.NewReader(c.data))
		if text := answer(r); r.StatusCode != c.code || !strings.Contains(text, c.text) {
			t.Errorf("%s: %s %s", name, r.Status, text)
		}
		if entries, _ := os.ReadDir(g.config.Volume.Dir); len(entries) > 0 {
			t.Errorf("%s: %v is left", name, entries)
		}
	}
	// The server still waits for a good one.
	good := random(1 << 20)
	if r := g.send(http.MethodPost, "/v1beta1/upload", bytes.NewReader(good)); r.StatusCode != 200 {
		t.Fatalf("%s %s", r.Status, answer(r))
	}
	g.mustEnd()
	g.disk(good)
}

func TestDeadline(t *testing.T) {
	g := newTarget(t)
	g.config.Deadline = time.Now().Add(-time.Second)
	g.start()
	if res := g.mustEnd(); !res.DeadlinePassed {
		t.Fatalf("%+v", res)
	}
}

// Upstream's clone source sends a device as snappy frames.
func TestBlockClone(t *testing.T) {
	data := append(random(2<<20), make([]byte, 2<<20)...)
	g := newTarget(t).start()
	var packed bytes.Buffer
	w := s2.NewWriter(&packed, s2.WriterSnappyCompat())
	w.Write(data)
	w.Close()
	r := g.send(http.MethodPost, "/v1beta1/upload", &packed, names.HeaderContentType, names.ContentBlockdevice)
	if r.StatusCode != 200 {
		t.Fatalf("%s %s", r.Status, answer(r))
	}
	if res := g.mustEnd(); !res.Clone {
		t.Fatalf("%+v", res)
	}
	g.disk(data)
}
