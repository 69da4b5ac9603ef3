// Package direct is how a client and an upload server find each other without anybody between them.
//
// Over the way that is there already, which proves who the client is, each tells the other the key that it will show: the client a key made
// for this one upload, the server the key of its certificate. Then the client calls the server's pod by its address, and either refuses
// whoever shows another key. Where the pod cannot be reached, nothing is lost: the way that is there already goes on being used.
package direct

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"
)

// lifetime of a client's certificate. Nobody looks at it, only at the key.
const lifetime = 24 * time.Hour

// prefix says how a key is named.
const prefix = "sha256/"

// Fingerprint names a certificate's public key.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return prefix + base64.StdEncoding.EncodeToString(sum[:])
}

// check tells whether text can be a fingerprint.
func check(text string) error {
	encoded, ok := strings.CutPrefix(text, prefix)
	if ok && len(encoded) == base64.StdEncoding.EncodedLen(sha256.Size) {
		if sum, err := base64.StdEncoding.DecodeString(encoded); err == nil && len(sum) == sha256.Size {
			return nil
		}
	}
	return errors.New("not the fingerprint of a key: write sha256/ and its 32 bytes in base64")
}

// same compares fingerprints.
func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// Identity is what a client shows: a key made for the purpose.
type Identity struct {
	// Fingerprint names the key.
	Fingerprint string
	certificate tls.Certificate
}

// NewIdentity makes a key.
func NewIdentity() (*Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for the upload: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(lifetime),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for the upload: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for the upload: %w", err)
	}
	return &Identity{
		Fingerprint: Fingerprint(leaf), certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf},
	}, nil
}

// Config is for connections to the server with the key named server, and to no other.
func (i *Identity) Config(server string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{i.certificate},
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection does: the key is known, names and authorities say nothing more
		VerifyConnection: func(state tls.ConnectionState) error {
			if !same(Fingerprint(state.PeerCertificates[0]), server) {
				return errors.New("somebody else than the upload server answers")
			}
			return nil
		},
	}
}

// most is how many clients a server lets in while it lives: the one that uploads, as often as it is started again.
const most = 64

// Guests are the clients that a server lets in. The zero value lets nobody in; who was let in once stays so.
type Guests struct {
	mu   sync.Mutex
	keys []string
}

// Admit lets the client with a key in.
func (g *Guests) Admit(fingerprint string) error {
	if err := check(fingerprint); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if slices.Contains(g.keys, fingerprint) {
		return nil
	}
	if len(g.keys) == most {
		return fmt.Errorf("%d clients were let in already", most)
	}
	g.keys = append(g.keys, fingerprint)
	return nil
}

// Know tells whether the client with a certificate was let in.
func (g *Guests) Know(c *x509.Certificate) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.ContainsFunc(g.keys, func(key string) bool { return same(key, Fingerprint(c)) })
}
