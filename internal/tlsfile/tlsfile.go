// Package tlsfile reads certificates from mounted Secrets and ConfigMaps, again whenever the files have changed. The kubelet
// swaps them at any time; a handshake that follows sees the new ones, without a watch and without a restart.
package tlsfile

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// KeyPair is a certificate with its key in two PEM files.
type KeyPair struct {
	CertFile, KeyFile string

	mu    sync.Mutex
	stamp [2]stamp
	cert  *tls.Certificate
}

// Mounted is the certificate of a Secret of the type kubernetes.io/tls that is mounted at dir.
func Mounted(dir string) *KeyPair {
	return &KeyPair{CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key")}
}

// stamp tells whether a file is still the one that was read. The kubelet replaces files by new ones.
type stamp struct {
	size  int64
	mtime time.Time
}

func stampOf(path string) (stamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}, err
	}
	return stamp{size: info.Size(), mtime: info.ModTime()}, nil
}

// Get gives the certificate as it is now. When the files cannot be read but once could, the last one is given.
func (k *KeyPair) Get() (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now, err := k.stamps()
	if err == nil && k.cert != nil && now == k.stamp {
		return k.cert, nil
	}
	if err == nil {
		var pair tls.Certificate
		if pair, err = tls.LoadX509KeyPair(k.CertFile, k.KeyFile); err == nil {
			k.cert, k.stamp = &pair, now
			return k.cert, nil
		}
	}
	if k.cert != nil {
		return k.cert, nil
	}
	return nil, fmt.Errorf("read the certificate: %w; check that its Secret exists and is mounted", err)
}

func (k *KeyPair) stamps() (s [2]stamp, err error) {
	for i, path := range []string{k.CertFile, k.KeyFile} {
		if s[i], err = stampOf(path); err != nil {
			return s, err
		}
	}
	return s, nil
}

// Server is for tls.Config.GetCertificate.
func (k *KeyPair) Server(*tls.ClientHelloInfo) (*tls.Certificate, error) { return k.Get() }

// Client is for tls.Config.GetClientCertificate.
func (k *KeyPair) Client(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return k.Get() }

// Bundle is a bundle of certificate authorities in a PEM file.
type Bundle struct {
	File string

	mu    sync.Mutex
	stamp stamp
	pool  *x509.CertPool
}

// Get gives the authorities as they are now. When the file cannot be read but once could, the last ones are given.
func (b *Bundle) Get() (*x509.CertPool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now, err := stampOf(b.File)
	if err == nil && b.pool != nil && now == b.stamp {
		return b.pool, nil
	}
	if err == nil {
		var pool *x509.CertPool
		if pool, err = readPool(b.File); err == nil {
			b.pool, b.stamp = pool, now
			return pool, nil
		}
	}
	if b.pool != nil {
		return b.pool, nil
	}
	return nil, fmt.Errorf("read the certificate authorities: %w; check that the ConfigMap they come from exists and is mounted", err)
}

func readPool(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return pool, nil
}

// Peer checks in tls.Config.VerifyConnection that the server at the other end is a component of the platform and has the role
// that its certificate's common name stands for. Components are reached by the address of their pod, which no certificate
// names; hence the role is checked instead of the host.
func (b *Bundle) Peer(commonName string) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return fmt.Errorf("the server shows no certificate, want one for %q", commonName)
		}
		roots, err := b.Get()
		if err != nil {
			return err
		}
		leaf, rest := state.PeerCertificates[0], x509.NewCertPool()
		for _, c := range state.PeerCertificates[1:] {
			rest.AddCert(c)
		}
		options := x509.VerifyOptions{Roots: roots, Intermediates: rest, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		if _, err := leaf.Verify(options); err != nil {
			return fmt.Errorf("verify the server's certificate: %w", err)
		}
		if leaf.Subject.CommonName != commonName {
			return fmt.Errorf("the server's certificate is for %q, want %q", leaf.Subject.CommonName, commonName)
		}
		return nil
	}
}
