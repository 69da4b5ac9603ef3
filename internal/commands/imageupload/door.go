package imageupload

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"virtctl/internal/cdi/names"
	"virtctl/internal/client"
)

// door is a way into the cluster for the image's bytes.
type door struct {
	// address is what the user is told.
	address string
	// prefix comes before upload, upload-async and so on.
	prefix string
	http   *http.Client
	// straight is true for the way to the upload server itself.
	straight bool
	// fetch gets a token; nil where the user's own credentials do.
	fetch func(ctx context.Context) (string, error)
	token string
}

// reach is how long a proxy may take to show that it is there.
const reach = 3 * time.Second

// open finds the way in: the proxy that the user names, the cluster's own if it can be reached, else the API server.
func (j *job) door(ctx context.Context) (*door, error) {
	if named := j.options.ProxyURL; named != "" {
		d, err := j.proxy(named, "")
		if err != nil {
			return nil, err
		}
		return d, d.renew(ctx)
	}
	if d := j.clusterProxy(ctx); d != nil {
		return d, d.renew(ctx)
	}
	bulk, base, err := j.client.Bulk()
	if err != nil {
		return nil, err
	}
	prefix := base.String() + client.UploadPath(j.namespace, j.options.Name) + "/"
	return &door{address: base.String() + " (the API server)", prefix: prefix, http: bulk}, nil
}

// clusterProxy gives the proxy that the cluster advertises, or nil.
func (j *job) clusterProxy(ctx context.Context) *door {
	config, err := j.client.CDIConfigs().Get(ctx, names.CDIConfig)
	if err != nil {
		return nil
	}
	address := config.Spec.UploadProxyURLOverride
	if address == nil || *address == "" {
		address = config.Status.UploadProxyURL
	}
	if address == nil || *address == "" {
		return nil
	}
	authority := ""
	if config.Status.UploadProxyCA != nil {
		authority = *config.Status.UploadProxyCA
	}
	d, err := j.proxy(*address, authority)
	if err == nil {
		if err = d.reachable(ctx); err == nil {
			return d
		}
	}
	j.factory.Streams.Say("the upload proxy %s cannot be reached from here (%s): the image goes through the API server\n", *address, short(err))
	return nil
}

// proxy makes the way through an upload proxy.
func (j *job) proxy(address, authority string) (*door, error) {
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	parsed, err := url.Parse(address)
	if err != nil || parsed.Host == "" {
		return nil, fmt.Errorf("--uploadproxy-url %q is not an address such as https://HOST", address)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: j.options.Insecure}
	if authority != "" {
		config.RootCAs = pool([]byte(authority))
	}
	address = strings.TrimSuffix(parsed.String(), "/")
	return &door{
		address: address, prefix: address + "/v1beta1/", http: &http.Client{Transport: client.BulkTransport(config)},
		fetch: func(ctx context.Context) (string, error) {
			return j.client.UploadToken(ctx, j.namespace, j.options.Name)
		},
	}, nil
}

// pool is what the system trusts, and the authority.
func pool(authority []byte) *x509.CertPool {
	all, err := x509.SystemCertPool()
	if err != nil {
		all = x509.NewCertPool()
	}
	all.AppendCertsFromPEM(authority)
	return all
}

// reachable asks the proxy whether it lives.
func (d *door) reachable(ctx context.Context) error {
	return d.answers(ctx, reach, http.MethodGet, strings.TrimSuffix(d.prefix, "/v1beta1/")+names.PathHealth)
}

// answers tells whether somebody says yes at an address in time.
func (d *door) answers(ctx context.Context, patience time.Duration, method, address string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return err
	}
	resp, err := d.http.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", resp.Status)
	}
	return nil
}

// renew gets a fresh token where one is needed.
func (d *door) renew(ctx context.Context) error {
	if d.fetch == nil {
		return nil
	}
	token, err := d.fetch(ctx)
	if err != nil {
		return err
	}
	d.token = token
	return nil
}

// request makes a request to one of the upload paths.
func (d *door) request(ctx context.Context, method, path string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, d.prefix+path, nil)
	if err != nil {
		return nil, fmt.Errorf("the address %s is not usable: %w", d.address, err)
	}
	if d.token != "" {
		req.Header.Set("Authorization", "Bearer "+d.token)
	}
	return req, nil
}

// short leaves the method and the address out of a request's error.
func short(err error) string {
	var request *url.Error
	if errors.As(err, &request) {
		return request.Err.Error()
	}
	return err.Error()
}
