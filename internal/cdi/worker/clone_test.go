package worker

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/source"
)

// identity is a certificate that signs itself: authority, server and client in one.
func identity(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names.UploadClientName}, IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := x509.MarshalPKCS8PrivateKey(k)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}

// uploadPod is a pod with an upload server.
func uploadPod(t *testing.T, cert, key string) (p *pod, address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	l.Close()
	p = newPod(t, map[string]string{envAddress: address, names.EnvClientName: names.UploadClientName, names.EnvFilesystemOverhead: "0.06"})
	for env, raw := range map[string]string{names.EnvTLSCertFile: cert, names.EnvTLSKeyFile: key, names.EnvClientCertFile: cert} {
		p.env[env] = filepath.Join(p.root, env)
		if err := os.WriteFile(p.env[env], []byte(raw), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p, address
}

// tunnel passes requests on and counts their bytes. The first one that has sent hold bytes is held for ever; half-way there it waits for
// halfway.
func tunnel(t *testing.T, address, cert, key string, hold int64, halfway func()) (*httptest.Server, *atomic.Int64, chan struct{}) {
	t.Helper()
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(cert))
	sent, held := &atomic.Int64{}, make(chan struct{}, 1)
	g := &gate{sent: sent, held: held, over: make(chan struct{})}
	g.halfway = sync.OnceFunc(halfway)
	g.limit.Store(hold)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "https", Host: address})
	proxy.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil {
			r.Body = &countBody{r.Body, g}
		}
		proxy.ServeHTTP(w, r)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.StartTLS()
	t.Cleanup(func() { close(g.over); server.CloseClientConnections(); server.Close() })
	return server, sent, held
}

type gate struct {
	sent    *atomic.Int64
	limit   atomic.Int64
	halfway func()
	held    chan struct{}
	over    chan struct{}
}

type countBody struct {
	io.ReadCloser
	*gate
}

func (c *countBody) Read(p []byte) (int, error) {
	limit := c.limit.Load()
	if limit > 0 && c.sent.Load() >= limit/2 {
		c.halfway()
	}
	if limit > 0 && c.sent.Load() >= limit {
		c.limit.Store(0)
		c.held <- struct{}{}
		<-c.over
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.ReadCloser.Read(p)
	c.sent.Add(int64(n))
	return n, err
}

func clonePod(t *testing.T, target, cert, key string) *pod {
	p := newPod(t, map[string]string{
		names.EnvUploadURL: target + names.PathUpload, names.EnvClientCert: cert, names.EnvClientKey: key, names.EnvServerCACert: cert,
		names.EnvOwnerUID: "uid",
	})
	p.env[names.EnvMountPoint] = filepath.Join(p.root, "data")
	return p
}

// A clone whose source pod is killed half-way goes on where it was.
func TestCloneGoesOnAfterKill(t *testing.T) {
	im := makeImages(t, 64)
	dense(t, images{dir: t.TempDir(), raw: im.raw, size: 16 << 20})
	if err := os.Truncate(im.raw, im.size); err != nil {
		t.Fatal(err)
	}
	cert, key := identity(t)
	target, address := uploadPod(t, cert, key)
	server := target.start(names.WorkerUploadServer)
	front, sent, held := tunnel(t, address, cert, key, 8<<20, func() { waitForJournal(t, target, 1) })
	from := clonePod(t, front.URL, cert, key)
	raw, err := os.ReadFile(im.raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(from.disk(), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := from.start(names.WorkerCloneSource)
	select {
	case <-held:
	case <-time.After(30 * time.Second):
		t.Fatalf("the clone source does not read on\n%s", target.log)
	}
	_ = cmd.Process.Kill()
	from.wait(cmd)
	safe, before := target.journal(), sent.Load()
	code, msg := from.run(names.WorkerCloneSource)
	if code != 0 || msg.Text() != names.MessageCloneComplete {
		t.Fatalf("exit %d, %s\n%s\n%s", code, msg.Text(), from.log, target.log)
	}
	code, msg = target.wait(server)
	if code != 0 || msg.Text() != names.MessageCloneComplete {
		t.Fatalf("exit %d, %s", code, msg.Text())
	}
	target.sameDisk(im.raw)
	target.onlyDisk()
	after := sent.Load() - before
	t.Logf("%d bytes were safe of %d that were sent, then %d more", safe, before, after)
	// The other side keeps more when the new connection takes over than it had before.
	if after > 17<<20-safe {
		t.Errorf("%d bytes were sent from byte %d on", after, safe)
	}
}

// A claim with other files is cloned as a tree.
func TestCloneOfFiles(t *testing.T) {
	cert, key := identity(t)
	target, address := uploadPod(t, cert, key)
	server := target.start(names.WorkerUploadServer)
	from := clonePod(t, "https://"+address, cert, key)
	for name, text := range map[string]string{"a.txt": "one", "b.txt": "two"} {
		if err := os.WriteFile(filepath.Join(from.root, "data", name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	waitForPort(t, address)
	if code, msg := from.run(names.WorkerCloneSource); code != 0 || msg.Fatal {
		t.Fatalf("exit %d, %s\n%s", code, msg.Text(), target.log)
	}
	if code, msg := target.wait(server); code != 0 || msg.Text() != names.MessageCloneComplete {
		t.Fatalf("exit %d, %s", code, msg.Text())
	}
	if raw, err := os.ReadFile(filepath.Join(target.root, "data", "b.txt")); string(raw) != "two" {
		t.Fatalf("%q, %v", raw, err)
	}
}

// waitForPort waits until somebody listens.
func waitForPort(t *testing.T, address string) {
	t.Helper()
	err := source.Retry(context.Background(), source.Policy{Attempts: 100, FirstDelay: 20 * time.Millisecond, MaxDelay: 200 * time.Millisecond}, func() error {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// SIGTERM in the middle of an upload leaves its progress, and the next pod says so.
func TestUploadServerIsTerminated(t *testing.T) {
	cert, key := identity(t)
	target, address := uploadPod(t, cert, key)
	server := target.start(names.WorkerUploadServer)
	waitForPort(t, address)
	pair, _ := tls.X509KeyPair([]byte(cert), []byte(key))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(cert))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}}
	read, write := io.Pipe()
	defer write.Close()
	go func() { _, _ = write.Write(bytes.Repeat([]byte("0123456789abcdef"), 1<<18)) }()
	req, _ := http.NewRequest(http.MethodPost, "https://"+address+names.PathUpload, read)
	req.Header.Set(names.HeaderIdentity, "mine")
	req.Header.Set(names.HeaderLength, "8388608")
	go func() {
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	waitForJournal(t, target, 1<<20)
	_ = server.Process.Signal(syscall.SIGTERM)
	if code, msg := target.wait(server); code != 1 || msg.Text() == "" {
		t.Fatalf("exit %d, %s", code, msg.Text())
	}
	target.start(names.WorkerUploadServer)
	waitForPort(t, address)
	req, _ = http.NewRequest(http.MethodHead, "https://"+address+names.PathUpload, nil)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.Header.Get(names.HeaderIdentity) != "mine" || resp.Header.Get(names.HeaderOffset) == "0" {
		t.Fatalf("%v", resp.Header)
	}
}

func TestImportOfArchive(t *testing.T) {
	dir := t.TempDir()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range []string{"one.txt", "deep/two.txt"} {
		_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(name)), Typeflag: tar.TypeReg})
		_, _ = io.WriteString(w, name)
	}
	w.Close()
	file := filepath.Join(dir, "files.tar")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	compress(t, file, "xz")
	server := serveFiles(t, dir)
	for _, name := range []string{"files.tar", "files.tar.xz"} {
		p := newPod(t, with(httpEnv(server.URL+"/"+name), names.EnvContentType, "archive"))
		code, msg := p.run(names.WorkerImport)
		if code != 0 || msg.Fatal || !strings.HasPrefix(msg.Digest, "sha256:") {
			t.Fatalf("exit %d, %s", code, msg.Text())
		}
		if raw, err := os.ReadFile(filepath.Join(p.root, "data", "deep", "two.txt")); string(raw) != "deep/two.txt" {
			t.Fatalf("%q, %v", raw, err)
		}
	}
}
