// Package pki makes the cluster's certificates once and renews them when they near their end.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	caLife   = 10 * 365 * 24 * time.Hour
	leafLife = 365 * 24 * time.Hour
	// renewBefore is how long before its end a certificate is replaced on start.
	renewBefore = 90 * 24 * time.Hour
	// backdate keeps a certificate valid on a machine whose clock is a little behind.
	backdate = time.Hour
)

// Request names one certificate.
type Request struct {
	// Name is the file name without extension.
	Name string
	// CA is the name of the authority that signs it.
	CA string
	// CommonName and Organization become the user and group that Kubernetes sees.
	CommonName   string
	Organization []string
	// Names and IPs are what a server may be called; a request without any is for a client.
	Names []string
	IPs   []net.IP
	// Client adds client use to a server's certificate.
	Client bool
}

// Store is a directory of certificates and keys.
type Store struct {
	Dir string
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

func (s Store) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// Cert and Key are the paths of a pair's files.
func (s Store) Cert(name string) string { return filepath.Join(s.Dir, name+".crt") }

// Key is the path of a private key.
func (s Store) Key(name string) string { return filepath.Join(s.Dir, name+".key") }

type pair struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// EnsureCA makes a self-signed authority unless there is one that lasts.
func (s Store) EnsureCA(name string) error {
	if p, err := s.load(name); err == nil && s.now().Add(renewBefore).Before(p.cert.NotAfter) {
		return nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	template := s.template(pkix.Name{CommonName: "virt-kube-" + name}, caLife)
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	return s.issue(name, template, nil)
}

// Ensure makes a certificate unless there is one that lasts, says the same and comes from the same authority.
func (s Store) Ensure(r Request) error {
	ca, err := s.load(r.CA)
	if err != nil {
		return fmt.Errorf("certificate %s: authority: %w", r.Name, err)
	}
	if p, err := s.load(r.Name); err == nil && s.fits(p.cert, r, ca.cert) {
		return nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	template := s.template(pkix.Name{CommonName: r.CommonName, Organization: r.Organization}, leafLife)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.DNSNames, template.IPAddresses = r.Names, r.IPs
	template.ExtKeyUsage = r.usages()
	return s.issue(r.Name, template, &ca)
}

func (r Request) usages() []x509.ExtKeyUsage {
	if len(r.Names)+len(r.IPs) == 0 {
		return []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	if r.Client {
		return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
}

// fits tells whether a certificate may stay.
func (s Store) fits(c *x509.Certificate, r Request, ca *x509.Certificate) bool {
	return s.now().Add(renewBefore).Before(c.NotAfter) &&
		c.CheckSignatureFrom(ca) == nil &&
		c.Subject.CommonName == r.CommonName &&
		slices.Equal(c.Subject.Organization, r.Organization) &&
		slices.Equal(c.DNSNames, r.Names) &&
		slices.EqualFunc(c.IPAddresses, r.IPs, net.IP.Equal) &&
		slices.Equal(c.ExtKeyUsage, r.usages())
}

// EnsureKey makes a bare signing key (service account tokens) with its public half beside it.
func (s Store) EnsureKey(name string) error {
	if _, err := os.Stat(s.Key(name)); err == nil {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make key %s: %w", name, err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("make key %s: %w", name, err)
	}
	if err := writePEM(filepath.Join(s.Dir, name+".pub"), "PUBLIC KEY", public, 0o644); err != nil {
		return err
	}
	return writeKey(s.Key(name), key)
}

func (s Store) template(subject pkix.Name, life time.Duration) *x509.Certificate {
	return &x509.Certificate{
		Subject:   subject,
		NotBefore: s.now().Add(-backdate).UTC(),
		NotAfter:  s.now().Add(life).UTC(),
	}
}

// issue makes a new key and certificate; ca is nil for a self-signed one.
func (s Store) issue(name string, template *x509.Certificate, ca *pair) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make certificate %s: %w", name, err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return fmt.Errorf("make certificate %s: %w", name, err)
	}
	template.SerialNumber = serial
	signer := pair{template, key}
	if ca != nil {
		signer = *ca
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer.cert, key.Public(), signer.key)
	if err != nil {
		return fmt.Errorf("make certificate %s: %w", name, err)
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return fmt.Errorf("make certificate %s: %w", name, err)
	}
	if err := writeKey(s.Key(name), key); err != nil {
		return err
	}
	return writePEM(s.Cert(name), "CERTIFICATE", der, 0o644)
}

// load reads a pair; a pair whose halves do not match (a crash between the two writes) counts as absent.
func (s Store) load(name string) (pair, error) {
	certBlock, err := readPEM(s.Cert(name))
	if err != nil {
		return pair{}, err
	}
	keyBlock, err := readPEM(s.Key(name))
	if err != nil {
		return pair{}, err
	}
	cert, err := x509.ParseCertificate(certBlock)
	if err != nil {
		return pair{}, fmt.Errorf("read %s: %w; remove it to have a new one made", s.Cert(name), err)
	}
	key, err := x509.ParseECPrivateKey(keyBlock)
	if err != nil {
		return pair{}, fmt.Errorf("read %s: %w; remove it to have a new one made", s.Key(name), err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return pair{}, fmt.Errorf("certificate %s belongs to another key: %w", name, fs.ErrNotExist)
	}
	return pair{cert, key}, nil
}

func readPEM(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("read %s: not PEM; remove it to have a new one made", path)
	}
	return block.Bytes, nil
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return writePEM(path, "EC PRIVATE KEY", der, 0o600)
}

// writePEM replaces a file in one step, so that a kill leaves the old or the new one.
func writePEM(path, kind string, der []byte, mode fs.FileMode) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(tmp, path)
}
