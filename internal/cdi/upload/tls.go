package upload

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"virtctl/internal/cdi/direct"
)

// TLS is where the server's certificate is and which clients it knows. The files are read for every connection: they are renewed while the
// server runs.
type TLS struct {
	CertFile, KeyFile, ClientCAFile string
	// MinVersion and Ciphers are as in a TLSSecurityProfile: VersionTLS12, and IANA's names with commas between.
	MinVersion, Ciphers string
}

// config lets in whom the authority or guests know.
func (t TLS) config(guests *direct.Guests) (*tls.Config, error) {
	if _, err := t.load(guests); err != nil {
		return nil, err
	}
	return &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.load(guests) }}, nil
}

// fingerprint names the key that the server shows.
func (t TLS) fingerprint() (string, error) {
	cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return "", fmt.Errorf("read the upload server's certificate: %w", err)
	}
	return direct.Fingerprint(cert.Leaf), nil
}

func (t TLS) load(guests *direct.Guests) (*tls.Config, error) {
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
		Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"},
		// The kubelet asks for the server's health without a certificate; everything else wants one.
		ClientAuth: tls.RequestClientCert, MinVersion: minVersion(t.MinVersion), CipherSuites: ciphers(t.Ciphers),
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 || guests.Know(state.PeerCertificates[0]) {
				return nil
			}
			return signed(state.PeerCertificates, clients)
		},
	}, nil
}

// signed tells whether the clients' authority stands behind a certificate.
func signed(certificates []*x509.Certificate, authority *x509.CertPool) error {
	between := x509.NewCertPool()
	for _, c := range certificates[1:] {
		between.AddCert(c)
	}
	_, err := certificates[0].Verify(x509.VerifyOptions{Roots: authority, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err
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
