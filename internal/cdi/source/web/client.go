package web

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Options is how a server is reached.
type Options struct {
	// CertDirs are folders of PEM files with authorities that are trusted beside the system's.
	CertDirs []string
	// Insecure accepts any certificate.
	Insecure bool
	// Secret names the headers that only the server of the source's URL may see.
	Secret []string
	// Proxy is which proxy a request goes through: http.ProxyFromEnvironment, or nothing.
	Proxy func(*http.Request) (*url.URL, error)
	// Local allows redirects to addresses of this pod and node. It is for sources that are there themselves; see NewClient.
	Local bool
}

const maxRedirects = 10

// NewClient makes a client for one origin. A redirect may lead to http and https only, and never to an address of this pod, of its links or of
// the cloud's metadata service, unless the origin is such an address itself: the user named that one, the server names the others.
func NewClient(origin *url.URL, opts Options) (*http.Client, error) {
	roots, err := authorities(opts.CertDirs)
	if err != nil {
		return nil, err
	}
	g := &guard{proxies: map[string]bool{}, origin: origin.Hostname(), local: opts.Local || localHost(origin.Hostname())}
	transport := &http.Transport{
		Proxy: g.proxy(opts.Proxy), DialContext: g.dialer(), TLSClientConfig: &tls.Config{RootCAs: roots, InsecureSkipVerify: opts.Insecure},
		TLSHandshakeTimeout: 30 * time.Second, ResponseHeaderTimeout: 60 * time.Second, IdleConnTimeout: 30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10, DisableCompression: true, MaxIdleConnsPerHost: 4, ReadBufferSize: 64 << 10,
	}
	return &http.Client{Transport: transport, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		return g.redirect(req, via, opts.Secret)
	}}, nil
}

// refusedError is a place that a redirect may not lead to.
type refusedError struct{ text string }

func (e *refusedError) Error() string { return e.text }

type guard struct {
	origin string
	local  bool

	mu      sync.Mutex
	proxies map[string]bool // hosts of proxies, whose addresses are the administrator's choice
}

// proxy remembers which proxies are used. The transport asks for one before it dials.
func (g *guard) proxy(choose func(*http.Request) (*url.URL, error)) func(*http.Request) (*url.URL, error) {
	return func(req *http.Request) (*url.URL, error) {
		if choose == nil {
			return nil, nil
		}
		u, err := choose(req)
		if u != nil {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.proxies[u.Hostname()] = true
		}
		return u, err
	}
}

func (g *guard) trusted(host string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.local || host == g.origin || g.proxies[host]
}

func (g *guard) redirect(req *http.Request, via []*http.Request, secret []string) error {
	if len(via) > maxRedirects {
		return &refusedError{fmt.Sprintf("more than %d redirects: check the URL", maxRedirects)}
	}
	if s := req.URL.Scheme; s != "http" && s != "https" {
		return &refusedError{fmt.Sprintf("the server redirects to a %s: address, which is not followed: give the file's own http(s) URL", s)}
	}
	if !g.local && req.URL.Hostname() != g.origin && localHost(req.URL.Hostname()) {
		return refusedAddress(req.URL.Hostname())
	}
	first := via[0].URL
	if req.URL.Host != first.Host || (first.Scheme == "https" && req.URL.Scheme == "http") {
		for _, name := range secret {
			req.Header.Del(name)
		}
		// Go keeps these for subdomains; here they are one server's.
		req.Header.Del("Authorization")
		req.Header.Del("Cookie")
	}
	return nil
}

// dialer checks addresses after names were resolved: a name may stand for any address.
func (g *guard) dialer() func(context.Context, string, string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}
	checked := *plain
	checked.Control = func(_, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("address %s: %w", address, err)
		}
		if localAddress(ap.Addr()) {
			return refusedAddress(ap.Addr().String())
		}
		return nil
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		if g.trusted(host) {
			return plain.DialContext(ctx, network, address)
		}
		return checked.DialContext(ctx, network, address)
	}
}

func refusedAddress(host string) error {
	return &refusedError{fmt.Sprintf("the server redirects to %s, an address of this node or its cloud, which is not followed: give the file's own URL", host)}
}

// localHost tells literal addresses and names of this machine.
func localHost(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && localAddress(addr)
}

// localAddress tells addresses that mean something else to this pod than to the server that names them.
func localAddress(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsUnspecified() || a.IsMulticast() {
		return true
	}
	// Metadata services that are not at a link-local address: AWS over IPv6, Alibaba, Oracle's older one.
	for _, text := range []string{"fd00:ec2::254", "100.100.100.200", "192.0.0.192"} {
		if a == netip.MustParseAddr(text) {
			return true
		}
	}
	return false
}

// authorities is the system's pool and every PEM file of the folders.
func authorities(dirs []string) (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		entries, err := os.ReadDir(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the certificate authorities: %w", err)
		}
		for _, e := range entries {
			// A mounted ConfigMap has its files as links, beside folders whose names begin with dots.
			raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				continue
			}
			pool.AppendCertsFromPEM(raw)
		}
	}
	return pool, nil
}
