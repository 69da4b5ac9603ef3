// Package certificates keeps the platform's own certificate authority and the leaf certificates of every component role.
//
// Rotation overlaps, so that nothing that is connected is dropped: a new authority is trusted (it is in the bundle) well before
// it signs anything, and an old one stays trusted until everything it signed has expired.
package certificates

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Pair is a certificate with its key, PEM-encoded.
type Pair struct {
	Cert []byte
	Key  []byte
}

// backdate lets clocks of the cluster's machines differ a little.
const backdate = 5 * time.Minute

// NewAuthority makes a self-signed certificate authority.
func NewAuthority(name string, now time.Time, lifetime time.Duration) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("make a key: %w", err)
	}
	serial, err := serialNumber()
	if err != nil {
		return Pair{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: fmt.Sprintf("%s@%d", name, now.Unix())},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(lifetime),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	return sign(template, template, key, key)
}

// Role is one component's identity: one certificate per role, never shared.
type Role struct {
	// Secret is where the pair is kept.
	Secret string
	// CommonName is what peers check.
	CommonName string
	DNSNames   []string
	// Client roles may only connect, server roles may only listen.
	Client, Server bool
}

// ServiceRole is the identity of what serves behind a Service.
func ServiceRole(secret, service, namespace string) Role {
	host := service + "." + namespace + ".svc"
	return Role{
		Secret: secret, CommonName: host, Server: true,
		DNSNames: []string{service, service + "." + namespace, host, host + ".cluster.local"},
	}
}

// Issue makes a leaf for a role, signed by ca.
func Issue(ca Pair, role Role, now time.Time, lifetime time.Duration) (Pair, error) {
	caCert, err := parseCertificate(ca.Cert)
	if err != nil {
		return Pair{}, err
	}
	caKey, err := parseKey(ca.Key)
	if err != nil {
		return Pair{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("make a key: %w", err)
	}
	serial, err := serialNumber()
	if err != nil {
		return Pair{}, err
	}
	notAfter := now.Add(lifetime)
	if notAfter.After(caCert.NotAfter) {
		notAfter = caCert.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: role.CommonName}, DNSNames: role.DNSNames,
		NotBefore: now.Add(-backdate), NotAfter: notAfter, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if role.Client {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	if role.Server {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	return sign(template, caCert, key, caKey)
}

func sign(template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) (Pair, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return Pair{}, fmt.Errorf("sign %s: %w", template.Subject.CommonName, err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return Pair{}, fmt.Errorf("encode the key of %s: %w", template.Subject.CommonName, err)
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}),
	}, nil
}

func serialNumber() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	return serial, nil
}

func parseCertificate(data []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("no PEM certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}

func parseKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("no PEM key")
	}
	return x509.ParseECPrivateKey(block.Bytes)
}
