package upload

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
)

// TLS is where the server's certificate is and which clients it knows. The files are read for every connection: they are renewed while the
// server runs.
type TLS struct {
	CertFile, KeyFile, ClientCAFile string
	// MinVersion and Ciphers are as in a TLSSecurityProfile: VersionTLS12, and IANA's names with commas between.
	MinVersion, Ciphers string
}

func (t TLS) config() (*tls.Config, error) {
	if _, err := t.load(); err != nil {
		return nil, err
	}
	return &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.load() }}, nil
}

func (t TLS) load() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("read the upload server's certificate: %w", err)
	}
	raw, err := os.ReadFile(t.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("read the authority of upload clients: %w", err)
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(raw) {
		return nil, errors.New("the authority of upload clients holds no certificate")
	}
	return &tls.Config{
		// HTTP/2 would slow one large body down by its windows.
		Certificates: []tls.Certificate{cert}, ClientCAs: clients, NextProtos: []string{"http/1.1"},
		// The kubelet asks for the server's health without a certificate; everything else wants one.
		ClientAuth: tls.VerifyClientCertIfGiven, MinVersion: minVersion(t.MinVersion), CipherSuites: ciphers(t.Ciphers),
	}, nil
}

func minVersion(name string) uint16 {
	switch name {
	case "VersionTLS13":
		return tls.VersionTLS13
	case "VersionTLS10":
		return tls.VersionTLS10
	case "VersionTLS11":
		return tls.VersionTLS11
	}
	return tls.VersionTLS12
}

// ciphers are those of the names that this program knows; none leaves Go's choice.
func ciphers(text string) []uint16 {
	known := map[string]uint16{}
	for _, suite := range tls.CipherSuites() {
		known[suite.Name] = suite.ID
	}
	var ids []uint16
	for _, name := range strings.Split(text, ",") {
		if id, ok := known[strings.TrimSpace(name)]; ok {
			ids = append(ids, id)
		}
	}
	return ids
}
