package client

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"k8s.io/client-go/rest"
)

// bulkBuffer is how much is handed to the network at once: bulk data goes in large pieces.
const bulkBuffer = 256 << 10

// Bulk gives an HTTP client for large bodies to the API server, with the user's credentials, and the server's address.
//
// It speaks HTTP/1.1: one body may then use the whole connection, while HTTP/2's windows would make it wait for the far end.
func (c *Client) Bulk() (*http.Client, *url.URL, error) {
	base, _, err := rest.DefaultServerUrlFor(c.config)
	if err != nil {
		return nil, nil, fmt.Errorf("the server address %q of the kubeconfig is not usable: %w", c.config.Host, err)
	}
	tlsConfig, err := rest.TLSConfigFor(c.config)
	if err != nil {
		return nil, nil, fmt.Errorf("prepare TLS for %s: %w", c.config.Host, err)
	}
	transport := BulkTransport(tlsConfig)
	if c.config.Proxy != nil {
		transport.Proxy = c.config.Proxy
	}
	if c.config.Dial != nil {
		transport.DialContext = c.config.Dial
	}
	wrapped, err := rest.HTTPWrappersForConfig(c.config, transport)
	if err != nil {
		return nil, nil, fmt.Errorf("prepare the credentials for %s: %w", c.config.Host, err)
	}
	base.Path = strings.TrimSuffix(base.Path, "/")
	return &http.Client{Transport: wrapped}, base, nil
}

// BulkTransport makes a transport for large bodies; tlsConfig may be nil.
func BulkTransport(tlsConfig *tls.Config) *http.Transport {
	if tlsConfig == nil {
		tlsConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	tlsConfig = tlsConfig.Clone()
	tlsConfig.NextProtos = []string{"http/1.1"}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig, transport.ForceAttemptHTTP2 = tlsConfig, false
	transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	transport.WriteBufferSize = bulkBuffer
	// Who refuses a body says so before it is sent; who says nothing gets it after this time.
	transport.ExpectContinueTimeout = 3 * time.Second
	return transport
}
