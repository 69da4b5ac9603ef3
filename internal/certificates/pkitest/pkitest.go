// Package pkitest makes certificates for tests.
package pkitest

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"virtctl/internal/certificates"
)

// Authority signs certificates.
type Authority struct {
	// PEM is the authority's own certificate.
	PEM  []byte
	pair certificates.Pair
}

// New makes an authority.
func New(t testing.TB, name string) *Authority {
	t.Helper()
	pair, err := certificates.NewAuthority(name, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return &Authority{PEM: pair.Cert, pair: pair}
}

// Leaf signs a certificate for client and server use, and gives it with its key as PEM.
func (a *Authority) Leaf(t testing.TB, name string) (cert, key []byte) {
	t.Helper()
	role := certificates.Role{CommonName: name, Client: true, Server: true}
	if !strings.Contains(name, ":") {
		role.DNSNames = []string{name}
	}
	pair, err := certificates.Issue(a.pair, role, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Cert, pair.Key
}

// Pair gives a certificate as crypto/tls wants it.
func (a *Authority) Pair(t testing.TB, name string) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(a.Leaf(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// Dir writes tls.crt and tls.key into a directory.
func (a *Authority) Dir(t testing.TB, dir, name string) {
	t.Helper()
	cert, key := a.Leaf(t, name)
	Write(t, filepath.Join(dir, "tls.crt"), cert)
	Write(t, filepath.Join(dir, "tls.key"), key)
}

// Write replaces a file by a new one, as the kubelet does.
func Write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
