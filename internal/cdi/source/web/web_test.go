package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"virtctl/internal/cdi/source"
)

// faulty is a web server that serves one file the way bad servers do.
type faulty struct {
	data     []byte
	tag      string
	cutAt    int64 // bytes of a response after which the connection is cut
	cuts     atomic.Int64
	noRanges bool
	noTag    bool
	lie      int64 // added to Content-Length
	hang     bool
	sent     atomic.Int64
	requests atomic.Int64
	change   func(*faulty)
	release  chan struct{}
}

func (f *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.requests.Add(1)
	if f.change != nil && f.requests.Load() > 1 {
		f.change(f)
	}
	from, status := int64(0), http.StatusOK
	condition := r.Header.Get("If-Range")
	if spec := r.Header.Get("Range"); spec != "" && !f.noRanges && (condition == "" || condition == f.tag) {
		_, _ = fmt.Sscanf(spec, "bytes=%d-", &from)
		status = http.StatusPartialContent
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, int64(len(f.data))-1+f.lie, int64(len(f.data))+f.lie))
		if from >= int64(len(f.data)) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", len(f.data)))
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
	}
	if !f.noTag {
		w.Header().Set("ETag", f.tag)
	}
	body := f.data[from:]
	w.Header().Set("Content-Length", fmt.Sprint(int64(len(body))+f.lie))
	w.WriteHeader(status)
	cut := f.cutAt > 0 && f.cuts.Add(-1) >= 0 && int64(len(body)) > f.cutAt
	if cut {
		body = body[:f.cutAt]
	}
	n, _ := w.Write(body)
	f.sent.Add(int64(n))
	if f.hang && cut {
		http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
		case <-f.release:
		}
	}
	if cut || f.lie != 0 {
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	g := rand.NewChaCha8([32]byte{1})
	_, _ = g.Read(b)
	return b
}

func quick() source.Policy {
	return source.Policy{Stall: 5 * time.Second, Attempts: 4, Progress: 1 << 10, FirstDelay: time.Millisecond, MaxDelay: 2 * time.Millisecond}
}

func open(t *testing.T, server *httptest.Server) *Object {
	t.Helper()
	o, err := HTTP{URL: server.URL + "/disk"}.Object()
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func serve(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(h)
	server.Config.ErrorLog = nil
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server
}

func read(t *testing.T, o source.Object, p source.Policy) ([]byte, *source.Reader, error) {
	t.Helper()
	r, err := source.NewReader(context.Background(), o, source.Start{}, p)
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	return data, r, err
}

func TestCutConnectionsAreContinued(t *testing.T) {
	for name, f := range map[string]*faulty{
		"cut":    {cutAt: 300 << 10, cuts: atomic.Int64{}},
		"stall":  {cutAt: 300 << 10, hang: true, release: make(chan struct{})},
		"simple": {},
	} {
		t.Run(name, func(t *testing.T) {
			f.data, f.tag = random(1<<20), `"v1"`
			f.cuts.Store(3)
			p := quick()
			if f.hang {
				p.Stall = 400 * time.Millisecond
			}
			data, r, err := read(t, open(t, serve(t, f)), p)
			if err != nil {
				t.Fatal(err)
			}
			if sha256.Sum256(data) != sha256.Sum256(f.data) {
				t.Fatal("another content")
			}
			if r.Info().Size != 1<<20 || !r.Info().Ranges {
				t.Fatalf("%+v", r.Info())
			}
			if f.cutAt > 0 && r.Retries() != 3 {
				t.Fatalf("%d retries", r.Retries())
			}
			if f.sent.Load() > 1<<20 {
				t.Fatalf("%d bytes sent for %d", f.sent.Load(), 1<<20)
			}
		})
	}
}

func TestServerWithoutRangesIsReadAgain(t *testing.T) {
	f := &faulty{data: random(1 << 20), tag: `"v1"`, noRanges: true, cutAt: 500 << 10}
	f.cuts.Store(1)
	data, r, err := read(t, open(t, serve(t, f)), quick())
	if err != nil || !bytes.Equal(data, f.data) || r.Info().Ranges {
		t.Fatalf("%v, %d bytes, %+v", err, len(data), r.Info())
	}
}

func TestUnusableStreams(t *testing.T) {
	cases := map[string]struct {
		f     *faulty
		is    error
		fatal bool
		text  string
	}{
		"changed in between": {f: &faulty{cutAt: 1000, change: func(f *faulty) { f.tag = `"v2"` }}, is: source.ErrChanged},
		"no identity":        {f: &faulty{cutAt: 1000, noTag: true}, is: source.ErrChanged, text: "1000 of"},
		"announces too much": {f: &faulty{lie: 5000}, fatal: true, text: "announced 107400 bytes and has only 102400"},
		"gives up":           {f: &faulty{cutAt: 10}, text: "given up after 4 attempts"},
		"empty":              {f: &faulty{data: []byte{}}, fatal: true, text: "is empty"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if c.f.data == nil {
				c.f.data = random(100 << 10)
			}
			c.f.tag = `"v1"`
			c.f.cuts.Store(1 << 40)
			_, _, err := read(t, open(t, serve(t, c.f)), quick())
			_, fatal := source.Fatal(err)
			if err == nil || fatal != c.fatal || !strings.Contains(err.Error(), c.text) || (c.is != nil && !errors.Is(err, c.is)) {
				t.Fatalf("fatal %v: %v", fatal, err)
			}
			if n := c.f.requests.Load(); n > 8 {
				t.Fatalf("%d requests", n)
			}
		})
	}
}

func TestStatusCodes(t *testing.T) {
	for code, c := range map[int]struct {
		requests int64
		text     string
	}{
		401: {1, "secretRef"}, 403: {1, "forbidden"}, 404: {1, "check the URL"}, 407: {1, "proxy"}, 418: {1, "check the URL"},
		429: {4, "429"}, 500: {4, "500"}, 503: {4, "503"},
	} {
		var requests atomic.Int64
		server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			requests.Add(1)
			w.WriteHeader(code)
			_, _ = io.WriteString(w, "because\nof this")
		}))
		_, _, err := read(t, open(t, server), quick())
		_, fatal := source.Fatal(err)
		if err == nil || fatal != (c.requests == 1) || requests.Load() != c.requests || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%d: %d requests, fatal %v: %v", code, requests.Load(), fatal, err)
		}
		if code != 407 && (err == nil || !strings.Contains(err.Error(), "(it says: because of this)")) {
			t.Errorf("%d: the server's words are missing: %v", code, err)
		}
	}
}

func TestRedirects(t *testing.T) {
	var seen http.Header
	target := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Clone()
		http.ServeContent(w, r, "x", time.Unix(1, 0), strings.NewReader("image"))
	}))
	var to string
	origin := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusFound)
	}))
	fetch := func(public bool) (string, error) {
		o, err := HTTP{URL: origin.URL, User: "u", Password: "p", SecretHeaders: []string{"X-Token: secret"}}.Object()
		if err != nil {
			t.Fatal(err)
		}
		if public {
			// As if the origin were a public server. It is reached because it is the origin.
			g := &guard{origin: o.URL.Hostname(), proxies: map[string]bool{}}
			o.Client.Transport.(*http.Transport).DialContext = g.dialer()
			o.Client.CheckRedirect = func(r *http.Request, via []*http.Request) error { return g.redirect(r, via, []string{"X-Token"}) }
		}
		data, _, err := read(t, o, quick())
		return string(data), err
	}
	to = target.URL
	if got, err := fetch(false); err != nil || got != "image" {
		t.Fatalf("a redirect between two local servers: %q, %v", got, err)
	}
	if seen.Get("X-Token") != "" || seen.Get("Authorization") != "" {
		t.Fatalf("credentials went to another server: %v", seen)
	}
	for _, to = range []string{
		"file:///etc/passwd", "ftp://example.com/x", "http://169.254.169.254/latest/", "http://[fe80::1%25eth0]/", "http://[::1]:80/",
		"http://localhost/", "http://0.0.0.0/", "http://[::ffff:169.254.169.254]/", "http://[fd00:ec2::254]/", "gopher://x",
	} {
		_, err := fetch(true)
		if _, fatal := source.Fatal(err); !fatal || !strings.Contains(err.Error(), "which is not followed") {
			t.Errorf("%s: %v", to, err)
		}
	}
	to = origin.URL
	if _, err := fetch(true); err == nil || !strings.Contains(err.Error(), "redirects") {
		t.Errorf("a circle: %v", err)
	}
}

// A name that resolves to an address of this node is found when it is dialled.
func TestRedirectByNameIsFoundWhenDialled(t *testing.T) {
	g := &guard{origin: "example.com", proxies: map[string]bool{"proxy": true}}
	_, err := g.dialer()(context.Background(), "tcp", "localhost:1")
	var refused *refusedError
	if !errors.As(err, &refused) {
		t.Fatalf("dialled: %v", err)
	}
	if !g.trusted("proxy") || g.trusted("other") {
		t.Fatal("proxies")
	}
}

func TestCredentialsHeadersAndCertificates(t *testing.T) {
	var seen *http.Request
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r
		http.ServeContent(w, r, "x", time.Unix(1, 0), strings.NewReader("image"))
	}))
	server.Config.ErrorLog = nil
	t.Cleanup(server.Close)
	dir := t.TempDir()
	raw := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	get := func(h HTTP) error {
		o, err := h.Object()
		if err != nil {
			return err
		}
		_, _, err = read(t, o, quick())
		return err
	}
	good := HTTP{URL: server.URL, User: "me", Password: "it's", Headers: []string{"X-A: 1", "Host: images.test"}, SecretHeaders: []string{"X-B:2"}, Options: Options{CertDirs: []string{dir, "/none"}}}
	if err := get(good); err != nil {
		t.Fatal(err)
	}
	user, password, _ := seen.BasicAuth()
	if user != "me" || password != "it's" || seen.Header.Get("X-A") != "1" || seen.Header.Get("X-B") != "2" || seen.Host != "images.test" || seen.UserAgent() != UserAgent {
		t.Fatalf("%s %s %v %s", user, password, seen.Header, seen.Host)
	}
	if err := get(HTTP{URL: server.URL, Options: Options{Insecure: true}}); err != nil {
		t.Fatal(err)
	}
	err := get(HTTP{URL: server.URL})
	if _, fatal := source.Fatal(err); !fatal || !strings.Contains(err.Error(), "certConfigMap") {
		t.Fatalf("a wrong authority: %v", err)
	}
	for _, bad := range []HTTP{{URL: "file:///etc/passwd"}, {URL: "://"}, {URL: "http://"}, {URL: server.URL, Headers: []string{"broken"}}} {
		if _, fatal := source.Fatal(get(bad)); !fatal {
			t.Errorf("%+v accepted", bad)
		}
	}
}

func TestProxy(t *testing.T) {
	proxy := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Host != "images.test" {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		http.ServeContent(w, r, "x", time.Unix(1, 0), strings.NewReader("through the proxy"))
	}))
	u, _ := url.Parse(proxy.URL)
	o, err := HTTP{URL: "http://images.test/x", Options: Options{Proxy: http.ProxyURL(u)}}.Object()
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := read(t, o, quick()); err != nil || string(got) != "through the proxy" {
		t.Fatalf("%q %v", got, err)
	}
}

func TestRandomAccess(t *testing.T) {
	f := &faulty{data: random(9<<20 + 77), tag: `"v1"`, cutAt: 2 << 20}
	f.cuts.Store(2)
	o := open(t, serve(t, f))
	ctx := context.Background()
	r, err := source.NewReader(ctx, o, source.Start{}, quick())
	if err != nil {
		t.Fatal(err)
	}
	info := r.Info()
	r.Close()
	at, err := source.NewReaderAt(ctx, o, info, quick())
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	g := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		off, n := g.Int64N(at.Size()), g.IntN(300<<10)
		p := make([]byte, n)
		got, err := at.ReadAt(p, off)
		want := f.data[off:min(off+int64(n), at.Size())]
		if !bytes.Equal(p[:got], want) || (err != nil) != (got < n) {
			t.Fatalf("%d bytes at %d: %d, %v", n, off, got, err)
		}
	}
	if _, err := at.ReadAt(make([]byte, 1), at.Size()); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	f.tag = `"v2"`
	at.Close()
	second, _ := source.NewReaderAt(ctx, o, info, quick())
	if _, err := second.ReadAt(make([]byte, 10), 5<<20); !errors.Is(err, source.ErrChanged) {
		t.Fatalf("a changed file: %v", err)
	}
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 0-9/10")
	f.Add("bytes 5-9/*")
	f.Fuzz(func(t *testing.T, text string) {
		from, total, err := contentRange(text)
		if err == nil && (from < 0 || total < -1 || (total >= 0 && from >= total)) {
			t.Fatalf("%d of %d", from, total)
		}
	})
}
