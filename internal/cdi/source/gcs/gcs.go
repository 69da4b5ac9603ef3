// Package gcs is the gcs source: an object of Google Cloud Storage.
package gcs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/jwt"

	"virtctl/internal/cdi/source"
	"virtctl/internal/cdi/source/web"
)

const (
	// server is where objects are.
	server = "storage.googleapis.com"
	// console is where a browser finds them; it wants a person's login.
	console  = "storage.cloud.google.com"
	scope    = "https://www.googleapis.com/auth/devstorage.read_only"
	tokenURL = "https://oauth2.googleapis.com/token"
	// maxKey bounds the credentials file.
	maxKey = 64 << 10
)

// Source is gs://bucket/object or https://server/bucket/object, and the file with a service account's key; without one it is read
// anonymously.
type Source struct {
	URL     string
	KeyFile string
	web.Options
}

// Object makes the file that the source names. Tokens are fetched with ctx.
func (s Source) Object(ctx context.Context) (*web.Object, error) {
	u, err := location(s.URL)
	if err != nil {
		return nil, err
	}
	client, err := web.NewClient(u, s.Options)
	if err != nil {
		return nil, err
	}
	object := &web.Object{Client: client, URL: u}
	if s.KeyFile == "" {
		return object, nil
	}
	tokens, err := s.tokens(ctx)
	if err != nil {
		return nil, err
	}
	object.Prepare = func(req *http.Request) error {
		token, err := tokens.Token()
		if err != nil {
			return explain(err)
		}
		token.SetAuthHeader(req)
		return nil
	}
	return object, nil
}

// explain keeps apart a key that Google does not accept and a server that did not answer.
func explain(err error) error {
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) && refused.Response != nil && refused.Response.StatusCode < 500 {
		return source.Fatalf(source.ReasonDenied, "the service account's key is not accepted (%s %s): put a valid credentials.json into the source's secret", refused.Response.Status, refused.ErrorCode)
	}
	return fmt.Errorf("get an access token for the service account: %w", err)
}

func location(text string) (*url.URL, error) {
	u, err := web.ParseURL(text, "gs", "https", "http")
	if err != nil {
		return nil, err
	}
	if u.Scheme == "gs" {
		u = &url.URL{Scheme: "https", Host: server, Path: "/" + u.Host + "/" + strings.TrimPrefix(u.Path, "/")}
	}
	if u.Host == console {
		u.Host = server
	}
	if bucket, object, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/"); bucket == "" || object == "" {
		return nil, source.Fatalf(source.ReasonUnusable, "the gcs URL %s names no object: it must be gs://bucket/object or https://%s/bucket/object", u.Redacted(), server)
	}
	return u, nil
}

// tokens signs in as the service account. Other kinds of credentials (which may name commands to run, or files) are refused.
func (s Source) tokens(ctx context.Context) (oauth2.TokenSource, error) {
	info, err := os.Stat(s.KeyFile)
	if err != nil || info.Size() > maxKey {
		return nil, source.Fatalf(source.ReasonDenied, "the source's secret has no usable credentials.json: it must be a service account's key")
	}
	raw, err := os.ReadFile(s.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("read the service account's key: %w", err)
	}
	var key struct {
		Type     string `json:"type"`
		Email    string `json:"client_email"`
		KeyID    string `json:"private_key_id"`
		Key      string `json:"private_key"`
		TokenURI string `json:"token_uri"`
	}
	if err := json.Unmarshal(raw, &key); err != nil || key.Type != "service_account" || key.Email == "" || key.Key == "" {
		return nil, source.Fatalf(source.ReasonDenied, "credentials.json in the source's secret is not a service account's key (\"type\": \"service_account\")")
	}
	if key.TokenURI == "" {
		key.TokenURI = tokenURL
	}
	u, err := web.ParseURL(key.TokenURI, "https", "http")
	if err != nil {
		return nil, err
	}
	client, err := web.NewClient(u, s.Options)
	if err != nil {
		return nil, err
	}
	config := &jwt.Config{Email: key.Email, PrivateKey: []byte(key.Key), PrivateKeyID: key.KeyID, Scopes: []string{scope}, TokenURL: key.TokenURI}
	return config.TokenSource(context.WithValue(ctx, oauth2.HTTPClient, client)), nil
}
