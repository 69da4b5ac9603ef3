package importcron

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"virtctl/internal/cdi/source/web"
)

// patience is how long a registry may take to answer.
const patience = 30 * time.Second

// Question is which image, and how to ask for it.
type Question struct {
	URL            string
	User, Password string
	// Authorities are PEM certificates to trust beside the system's.
	Authorities []byte
	// InsecureHosts need no certificate that holds.
	InsecureHosts []string
}

// DigestFunc asks a registry for the digest of an image.
type DigestFunc func(ctx context.Context, q Question) (string, error)

// Digest asks without reading the image. An image that is named by its digest is not asked for.
func Digest(ctx context.Context, q Question) (string, error) {
	text, ok := strings.CutPrefix(q.URL, "docker://")
	if !ok {
		return "", fmt.Errorf("registry URL %q must be docker://server/repository:tag", q.URL)
	}
	host, _, _ := strings.Cut(text, "/")
	insecure := slices.Contains(q.InsecureHosts, host)
	var options []name.Option
	if insecure {
		options = append(options, name.Insecure)
	}
	ref, err := name.ParseReference(text, options...)
	if err != nil {
		return "", fmt.Errorf("registry URL %q: %w", q.URL, err)
	}
	if digest, pinned := ref.(name.Digest); pinned {
		return digest.DigestStr(), nil
	}
	registry := ref.Context().Registry
	if cloudAddress(registry.RegistryStr()) {
		return "", fmt.Errorf("registry %s is an address of the node or its cloud, which is not asked", registry.RegistryStr())
	}
	client, err := web.NewClient(&url.URL{Scheme: registry.Scheme(), Host: registry.RegistryStr()}, web.Options{Insecure: insecure, Proxy: http.ProxyFromEnvironment})
	if err != nil {
		return "", err
	}
	if err := trust(client, q.Authorities); err != nil {
		return "", err
	}
	auth := authn.Anonymous
	if q.User != "" || q.Password != "" {
		auth = &authn.Basic{Username: q.User, Password: q.Password}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	head, err := remote.Head(ref, remote.WithContext(ctx), remote.WithAuth(auth), remote.WithTransport(client.Transport))
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", ref, err)
	}
	return head.Digest.String(), nil
}

func trust(client *http.Client, authorities []byte) error {
	if len(authorities) == 0 {
		return nil
	}
	t, ok := client.Transport.(*http.Transport)
	if !ok {
		return errors.New("the client's transport takes no authorities")
	}
	pool := t.TLSClientConfig.RootCAs
	if pool == nil {
		var err error
		if pool, err = x509.SystemCertPool(); err != nil {
			pool = x509.NewCertPool()
		}
	}
	if !pool.AppendCertsFromPEM(authorities) {
		return errors.New("the ConfigMap with the registry's authority holds no certificate")
	}
	t.TLSClientConfig.RootCAs = pool
	return nil
}

// cloudAddress tells addresses where a cloud answers questions about the node we run on.
func cloudAddress(host string) bool {
	if h, _, found := strings.Cut(host, ":"); found && !strings.Contains(h, "[") {
		host = h
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && a.IsLinkLocalUnicast()
}
