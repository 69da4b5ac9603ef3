// Package issue makes the certificates of upload servers and clone sources: short-lived leaves of the authorities that the
// operator keeps.
package issue

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Authority signs.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// Pair is a leaf, PEM encoded.
type Pair struct {
	Cert, Key []byte
	// End is when it stops being valid.
	End time.Time
}

// NewAuthority reads an authority from PEM.
func NewAuthority(cert, key []byte) (*Authority, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("read the signing certificate: %w", err)
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, errors.New("the signing key cannot sign")
	}
	parsed, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("parse the signing certificate: %w", err)
	}
	return &Authority{parsed, signer}, nil
}

// Server makes a certificate for a server of these names, the first of which is its common name.
func (a *Authority) Server(hosts []string, now time.Time, duration time.Duration) (Pair, error) {
	return a.leaf(&x509.Certificate{
		Subject: pkix.Name{CommonName: hosts[0]}, DNSNames: hosts, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, now, duration)
}

// Client makes a certificate for a client that is known by name.
func (a *Authority) Client(name string, now time.Time, duration time.Duration) (Pair, error) {
	return a.leaf(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, now, duration)
}

// leaf signs a certificate that outlives neither its duration nor the authority.
func (a *Authority) leaf(template *x509.Certificate, now time.Time, duration time.Duration) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("make a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return Pair{}, fmt.Errorf("make a serial number: %w", err)
	}
	end := now.Add(duration)
	if end.After(a.cert.NotAfter) {
		end = a.cert.NotAfter
	}
	template.SerialNumber, template.KeyUsage = serial, x509.KeyUsageDigitalSignature
	template.NotBefore, template.NotAfter = now.Add(-5*time.Minute), end
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return Pair{}, fmt.Errorf("sign the certificate of %s: %w", template.Subject.CommonName, err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, fmt.Errorf("encode the key: %w", err)
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		End:  end,
	}, nil
}
