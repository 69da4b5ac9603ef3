package issue

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

// A server's certificate is believed by who believes the authority, for its own names, and ends no later than the authority.
func TestServer(t *testing.T) {
	now := time.Now()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "signer"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	a, err := NewAuthority(ca, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	verify := func(p Pair, o x509.VerifyOptions) (*x509.Certificate, error) {
		block, _ := pem.Decode(p.Cert)
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		o.Roots = pool
		_, err = c.Verify(o)
		return c, err
	}
	server, err := a.Server([]string{"cdi-upload-x.lab.svc", "cdi-upload-x.lab"}, now, 15*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c, err := verify(server, x509.VerifyOptions{DNSName: "cdi-upload-x.lab.svc"})
	if err != nil || c.NotAfter.After(template.NotAfter) || !server.End.Equal(template.NotAfter) && server.End.Sub(template.NotAfter).Abs() > time.Second {
		t.Errorf("%v, ends %v", err, c.NotAfter)
	}
	if _, err := verify(server, x509.VerifyOptions{DNSName: "cdi-upload-y.lab.svc"}); err == nil {
		t.Error("good for another claim")
	}
	client, err := a.Client("golden/a-lab/b", now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := verify(client, x509.VerifyOptions{KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil || c.Subject.CommonName != "golden/a-lab/b" {
		t.Errorf("%v", err)
	}
	if _, err := verify(client, x509.VerifyOptions{}); err == nil {
		t.Error("a client's certificate serves")
	}
	if _, err := NewAuthority([]byte("x"), []byte("y")); err == nil {
		t.Error("no authority")
	}
}
