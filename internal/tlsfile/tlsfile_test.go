package tlsfile

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"virtctl/internal/certificates/pkitest"
)

// Certificates are renewed daily; a server that went on with the old one would be refused a day later.
func TestKeyPairFollowsItsFiles(t *testing.T) {
	ca, dir := pkitest.New(t, "ca"), t.TempDir()
	pair := Mounted(dir)
	if _, err := pair.Get(); err == nil {
		t.Fatal("a certificate out of nothing")
	}
	name := func() string {
		t.Helper()
		c, err := pair.Get()
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.Subject.CommonName
	}
	ca.Dir(t, dir, "first")
	if name() != "first" {
		t.Error("the first certificate is not there")
	}
	ca.Dir(t, dir, "second")
	touch(t, dir)
	if name() != "second" {
		t.Error("the second certificate is not seen")
	}
	// The kubelet is between two files.
	if err := os.Remove(filepath.Join(dir, "tls.key")); err != nil {
		t.Fatal(err)
	}
	if name() != "second" {
		t.Error("a missing file took the certificate away")
	}
	pkitest.Write(t, filepath.Join(dir, "tls.key"), []byte("garbage"))
	if name() != "second" {
		t.Error("a broken file took the certificate away")
	}
}

// touch makes sure that the new files' times differ, on file systems with coarse ones too.
func touch(t *testing.T, dir string) {
	t.Helper()
	later := time.Now().Add(time.Minute)
	for _, f := range []string{"tls.crt", "tls.key"} {
		if err := os.Chtimes(filepath.Join(dir, f), later, later); err != nil {
			t.Fatal(err)
		}
	}
}

// CVE-2025-64434: a component that may be a client must not pass for a node agent, nor one platform's agent for another's.
func TestPeerHasTheRightRole(t *testing.T) {
	ours, theirs := pkitest.New(t, "ours"), pkitest.New(t, "theirs")
	bundle := &Bundle{File: filepath.Join(t.TempDir(), "ca-bundle")}
	state := func(a *pkitest.Authority, name string) tls.ConnectionState {
		leaf, err := x509.ParseCertificate(a.Pair(t, name).Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}
	}
	check := bundle.Peer("agent")
	if err := check(state(ours, "agent")); err == nil || !strings.Contains(err.Error(), "ConfigMap") {
		t.Errorf("without authorities: %v", err)
	}
	pkitest.Write(t, bundle.File, ours.PEM)
	for _, tc := range []struct {
		name  string
		state tls.ConnectionState
		ok    bool
	}{
		{"agent", state(ours, "agent"), true},
		{"another role", state(ours, "controller"), false},
		{"another platform", state(theirs, "agent"), false},
		{"nobody", tls.ConnectionState{}, false},
	} {
		if err := check(tc.state); (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	// Rotation: for a while there are two authorities.
	pkitest.Write(t, bundle.File, append(append([]byte{}, theirs.PEM...), ours.PEM...))
	for _, a := range []*pkitest.Authority{ours, theirs} {
		if err := check(state(a, "agent")); err != nil {
			t.Errorf("during rotation: %v", err)
		}
	}
}
