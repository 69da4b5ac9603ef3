package token

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// NewKey makes a signing key: the private and the public part, PEM.
func NewKey() (private, public []byte, err error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, nil, fmt.Errorf("make a signing key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the signing key: %w", err)
	}
	private = pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	return private, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// ParsePrivate reads the private part of a signing key.
func ParsePrivate(data []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("the signing key is not PEM")
	}
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the signing key: %w", err)
	}
	return key, nil
}

// ParsePublic reads the public part of a signing key.
func ParsePublic(data []byte) (*rsa.PublicKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("the signing key's public part is not PEM")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the signing key's public part: %w", err)
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("the signing key is a %T, want RSA", parsed)
	}
	return key, nil
}

// File is a key in a file of a mounted Secret, read again whenever the file has changed. When it cannot be read but once
// could, the last key is given.
type File[K rsa.PrivateKey | rsa.PublicKey] struct {
	Path  string
	Parse func([]byte) (*K, error)

	mu    sync.Mutex
	size  int64
	mtime time.Time
	key   *K
}

// PrivateFile is the private part of a signing key in a file.
func PrivateFile(path string) *File[rsa.PrivateKey] {
	return &File[rsa.PrivateKey]{Path: path, Parse: ParsePrivate}
}

// PublicFile is the public part of a signing key in a file.
func PublicFile(path string) *File[rsa.PublicKey] {
	return &File[rsa.PublicKey]{Path: path, Parse: ParsePublic}
}

// Get gives the key as it is now.
func (f *File[K]) Get() (*K, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.Path)
	if err == nil && f.key != nil && info.Size() == f.size && info.ModTime().Equal(f.mtime) {
		return f.key, nil
	}
	if err == nil {
		var data []byte
		if data, err = os.ReadFile(f.Path); err == nil {
			var key *K
			if key, err = f.Parse(data); err == nil {
				f.key, f.size, f.mtime = key, info.Size(), info.ModTime()
				return key, nil
			}
		}
	}
	if f.key != nil {
		return f.key, nil
	}
	return nil, fmt.Errorf("read the token signing key: %w; check that Secret cdi-api-signing-key exists and is mounted", err)
}
