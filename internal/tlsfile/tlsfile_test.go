package tlsfile

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"
	"time"

	"virtctl/internal/certificates"
)

func issue(t *testing.T, ca certificates.Pair, dir, name string) {
	t.Helper()
	pair, err := certificates.Issue(ca, certificates.Role{CommonName: name, DNSNames: []string{name}, Server: true}, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, filepath.Join(dir, "tls.crt"), pair.Cert)
	replace(t, filepath.Join(dir, "tls.key"), pair.Key)
}

// replace swaps a file for a new one, as the kubelet does.
func replace(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// Certificates are renewed while servers run; one that went on with the old would be refused in the end.
func TestFilesAreFollowed(t *testing.T) {
	ca, err := certificates.NewAuthority("ca", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	pair := &KeyPair{CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key")}
	bundle := &Bundle{File: filepath.Join(dir, "ca.crt")}
	if _, err := pair.Get(); err == nil {
		t.Error("a certificate out of nothing")
	}
	if _, err := bundle.Get(); err == nil {
		t.Error("authorities out of nothing")
	}
	replace(t, bundle.File, ca.Cert)
	issue(t, ca, dir, "first.example")
	if cert, err := pair.Get(); err != nil || cert.Leaf.DNSNames[0] != "first.example" {
		t.Errorf("the first certificate: %v", err)
	}
	issue(t, ca, dir, "a-second-name.example")
	cert, err := pair.Get()
	if err != nil || cert.Leaf.DNSNames[0] != "a-second-name.example" {
		t.Errorf("the second certificate: %v", err)
	}
	replace(t, pair.KeyFile, []byte("half"))
	if again, err := pair.Get(); err != nil || again != cert {
		t.Errorf("while it is replaced: %v", err)
	}
	state := tls.ConnectionState{PeerCertificates: nil}
	if bundle.Peer("a-second-name.example")(state) == nil {
		t.Error("a peer without a certificate is let in")
	}
	state.PeerCertificates = append(state.PeerCertificates, cert.Leaf)
	if err := bundle.Peer("a-second-name.example")(state); err != nil {
		t.Error(err)
	}
	if bundle.Peer("first.example")(state) == nil {
		t.Error("a peer of another name is let in")
	}
}
