// Package certs reads the certificates that virt-operator has mounted into the pod, and reads them again when they change.
package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/fsnotify/fsnotify"
	"github.com/go-logr/logr"
)

// Files name a key pair's directory (tls.crt and tls.key in it) and a file with the certificate authorities to trust.
type Files struct{ Dir, CA string }

// Source holds the certificates as they are now.
type Source struct {
	files   Files
	log     logr.Logger
	current atomic.Pointer[loaded]
}

type loaded struct {
	pair tls.Certificate
	pool *x509.CertPool
}

// New reads the files. What is missing or broken now is logged and may come later.
func New(files Files, log logr.Logger) *Source {
	s := &Source{files: files, log: log}
	if err := s.load(); err != nil {
		log.Error(err, "no certificates yet; connections are refused until virt-operator has issued them")
	}
	return s
}

func (s *Source) load() error {
	pair, err := tls.LoadX509KeyPair(filepath.Join(s.files.Dir, "tls.crt"), filepath.Join(s.files.Dir, "tls.key"))
	if err != nil {
		return fmt.Errorf("read the certificate in %s: %w", s.files.Dir, err)
	}
	bundle, err := os.ReadFile(s.files.CA)
	if err != nil {
		return fmt.Errorf("read the certificate authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(bundle) {
		return fmt.Errorf("%s holds no certificate", s.files.CA)
	}
	s.current.Store(&loaded{pair: pair, pool: pool})
	return nil
}

// Start reloads the files when they change, until ctx ends. The kubelet replaces a mounted Secret by renaming a symbolic link in
// its directory, so directories are watched.
func (s *Source) Start(ctx context.Context) error {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("start watching files: %w; raise fs.inotify.max_user_instances", err)
	}
	defer notify.Close()
	for _, dir := range []string{s.files.Dir, filepath.Dir(s.files.CA)} {
		if err := notify.Add(dir); err != nil {
			return fmt.Errorf("watch %s: %w", dir, err)
		}
	}
	s.reload() // what changed before the watch
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-notify.Events:
			if !ok {
				return errors.New("watching files ended")
			}
			s.reload()
		case err, ok := <-notify.Errors:
			if !ok {
				return errors.New("watching files ended")
			}
			s.log.Error(err, "watching certificates")
			s.reload()
		}
	}
}

// reload keeps the old certificates while the new ones are incomplete.
func (s *Source) reload() {
	if err := s.load(); err != nil {
		s.log.V(1).Info("keeping the present certificates", "reason", err.Error())
	}
}

var errNone = errors.New("no certificate has been issued to this component yet")

// Server is for a server that asks for client certificates in the given way, and accepts those of our own authorities.
func (s *Source) Server(auth tls.ClientAuthType) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			now := s.current.Load()
			if now == nil {
				return nil, errNone
			}
			return &tls.Config{
				MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{now.pair}, ClientCAs: now.pool, ClientAuth: auth,
				NextProtos: []string{"http/1.1"},
			}, nil
		},
	}
}

// Client is for connections to the platform's server with the given common name. Components are known by their role, not by
// their address, so the chain and the common name are verified and the address is not.
func (s *Source) Client(server string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			now := s.current.Load()
			if now == nil {
				return nil, errNone
			}
			return &now.pair, nil
		},
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies the chain and the role
		VerifyConnection:   func(state tls.ConnectionState) error { return s.verify(state, server) },
	}
}

func (s *Source) verify(state tls.ConnectionState, server string) error {
	now := s.current.Load()
	if now == nil {
		return errNone
	}
	if len(state.PeerCertificates) == 0 {
		return errors.New("the server shows no certificate")
	}
	leaf := state.PeerCertificates[0]
	between := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		between.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: now.pool, Intermediates: between}); err != nil {
		return fmt.Errorf("verify the server's certificate: %w", err)
	}
	if leaf.Subject.CommonName != server {
		return fmt.Errorf("the server is %q, not %q", leaf.Subject.CommonName, server)
	}
	return nil
}
