package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
)

// write puts a new self-signed pair in place the way the kubelet does: a new directory, then one rename.
func write(t *testing.T, dir, version string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyRaw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, version)
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
	for name, content := range map[string][]byte{
		"tls.crt": cert, "ca-bundle": cert, "tls.key": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyRaw}),
	} {
		if err := os.WriteFile(filepath.Join(data, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		if link := filepath.Join(dir, name); version == "..1" {
			if err := os.Symlink("..data/"+name, link); err != nil {
				t.Fatal(err)
			}
		}
	}
	tmp := filepath.Join(dir, "..tmp")
	if err := os.Symlink(version, tmp); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
}

func serial(t *testing.T, config *tls.Config) int64 {
	t.Helper()
	c, err := config.GetConfigForClient(nil)
	if err != nil {
		return 0
	}
	cert, err := x509.ParseCertificate(c.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return cert.SerialNumber.Int64()
}

// Certificates are replaced every day; a server that keeps the old ones refuses everybody a day later.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	s := New(Files{Dir: dir, CA: filepath.Join(dir, "ca-bundle")}, logr.Discard())
	config := s.Server(tls.RequireAndVerifyClientCert)
	if serial(t, config) != 0 {
		t.Fatal("a certificate out of nothing")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Start(ctx) }()
	write(t, dir, "..1", 1)
	wait(t, config, 1)
	write(t, dir, "..2", 2)
	wait(t, config, 2)
	// A broken pair must not replace a good one.
	if err := os.WriteFile(filepath.Join(dir, "..2", "tls.crt"), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "..3", 3)
	wait(t, config, 3)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func wait(t *testing.T, config *tls.Config, want int64) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for serial(t, config) != want {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("serial %d, want %d", serial(t, config), want)
		}
	}
}
