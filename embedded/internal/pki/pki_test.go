package pki

import (
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"testing"
	"time"

	"virtctl/embedded/internal/options"
	"virtctl/embedded/internal/plan"
)

func read(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Certificates are made once: a start that made new ones would cut off every client of the cluster.
func TestEnsureIsIdempotentAndRenews(t *testing.T) {
	now := time.Now()
	s := Store{Dir: t.TempDir(), Now: func() time.Time { return now }}
	r := Request{Name: "web", CA: CA, CommonName: "web", Names: []string{"web"}, IPs: []net.IP{net.IPv4(10, 0, 0, 1)}}
	ensure := func() *x509.Certificate {
		t.Helper()
		if err := s.EnsureCA(CA); err != nil {
			t.Fatal(err)
		}
		if err := s.Ensure(r); err != nil {
			t.Fatal(err)
		}
		return read(t, s.Cert("web"))
	}
	first := ensure()
	if again := ensure(); !again.Equal(first) {
		t.Error("a second start made a new certificate")
	}
	now = now.Add(leafLife - renewBefore + time.Minute)
	renewed := ensure()
	if renewed.Equal(first) {
		t.Error("a certificate near its end was kept")
	}
	if err := renewed.CheckSignatureFrom(read(t, s.Cert(CA))); err != nil {
		t.Errorf("renewed certificate: %v", err)
	}
	r.IPs = append(r.IPs, net.IPv4(10, 0, 0, 2))
	if changed := ensure(); len(changed.IPAddresses) != 2 {
		t.Error("a new address did not make a new certificate")
	}
	now = now.Add(caLife)
	ca := read(t, s.Cert(CA))
	if last := ensure(); last.CheckSignatureFrom(read(t, s.Cert(CA))) != nil || read(t, s.Cert(CA)).Equal(ca) {
		t.Error("an ended authority was not replaced together with its certificates")
	}
}

// A kill between writing key and certificate must not leave a pair that never works again.
func TestMismatchedPairIsReplaced(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	for _, name := range []string{CA, "other"} {
		if err := s.EnsureCA(name); err != nil {
			t.Fatal(err)
		}
	}
	other, err := os.ReadFile(s.Key("other"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Key(CA), other, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.EnsureCA(CA); err != nil {
		t.Fatal(err)
	}
	if _, err := s.load(CA); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Cert(CA), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.EnsureCA(CA); err == nil {
		t.Error("garbage was replaced silently: the user should know")
	}
}

// Every certificate of a cluster must verify for the use it is made for.
func TestEnsureCluster(t *testing.T) {
	o := options.Default()
	o.Nodes = 2
	c, err := plan.New(o)
	if err != nil {
		t.Fatal(err)
	}
	s := Store{Dir: t.TempDir()}
	if err := EnsureCluster(s, c); err != nil {
		t.Fatal(err)
	}
	for _, r := range requests(c) {
		roots := x509.NewCertPool()
		roots.AddCert(read(t, s.Cert(r.CA)))
		cert := read(t, s.Cert(r.Name))
		for _, use := range r.usages() {
			if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
				t.Errorf("%s: %v", r.Name, err)
			}
		}
		info, err := os.Stat(s.Key(r.Name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: key mode %v, %v", r.Name, info.Mode(), err)
		}
	}
	if err := read(t, s.Cert(APIServer)).VerifyHostname("10.213.0.1"); err != nil {
		t.Error(err)
	}
}
