package web

import (
	"net/http"
	"net/url"
	"strings"

	"virtctl/internal/cdi/source"
)

// HTTP is the http source: a URL and what it takes to read it.
type HTTP struct {
	URL            string
	User, Password string
	// Headers and SecretHeaders are lines "Name: value".
	Headers, SecretHeaders []string
	Options
}

// Object makes the file that the source names.
func (h HTTP) Object() (*Object, error) {
	u, err := ParseURL(h.URL, "http", "https")
	if err != nil {
		return nil, err
	}
	header := http.Header{}
	for _, line := range append(append([]string{}, h.Headers...), h.SecretHeaders...) {
		name, value, ok := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return nil, source.Fatalf(source.ReasonUnusable, "an extra header must be \"Name: value\"")
		}
		header.Add(name, strings.TrimSpace(value))
		// Every header the user added may be a credential: they go to the user's server only.
		h.Secret = append(h.Secret, name)
	}
	client, err := NewClient(u, h.Options)
	if err != nil {
		return nil, err
	}
	return &Object{Client: client, URL: u, Prepare: func(req *http.Request) error {
		for name, values := range header {
			req.Header[name] = values
			if name == "Host" {
				req.Host = values[0]
			}
		}
		if h.User != "" || h.Password != "" {
			req.SetBasicAuth(h.User, h.Password)
		}
		return nil
	}}, nil
}

// ParseURL reads a source's URL.
func ParseURL(text string, schemes ...string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil {
		// The error would repeat the URL, maybe with a password in it.
		return nil, source.Fatalf(source.ReasonUnusable, "the source URL cannot be read: check it for spaces and wrong characters")
	}
	for _, s := range schemes {
		if u.Scheme == s && u.Host != "" {
			return u, nil
		}
	}
	return nil, source.Fatalf(source.ReasonUnusable, "the source URL %s must be %s://host/path", u.Redacted(), strings.Join(schemes, ":// or "))
}
