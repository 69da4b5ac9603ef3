package web

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"virtctl/internal/cdi/source"
)

// status explains an answer that is no file. What the client must change is fatal; what the server may recover from is not.
func status(u *url.URL, resp *http.Response) error {
	where := u.Redacted()
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized:
		return source.Fatalf(source.ReasonDenied, "%s: the server answers 401: give the source a secretRef with accessKeyId and secretKey that the server accepts%s", where, detail(resp))
	case code == http.StatusForbidden:
		return source.Fatalf(source.ReasonDenied, "%s: 403 forbidden: these credentials (or none) may not read the file: check the secretRef and the server's permissions%s", where, detail(resp))
	case code == http.StatusNotFound || code == http.StatusGone:
		return source.Fatalf(source.ReasonUnusable, "%s: %d there is no such file: check the URL%s", where, code, detail(resp))
	case code == http.StatusProxyAuthRequired:
		return source.Fatalf(source.ReasonDenied, "%s: 407 the proxy wants credentials: put them into the import proxy's URL", where)
	case code == http.StatusRequestTimeout || code == http.StatusTooEarly || code == http.StatusTooManyRequests || code >= 500:
		return fmt.Errorf("%s: the server answers %s%s", where, resp.Status, detail(resp))
	default:
		return source.Fatalf(source.ReasonUnusable, "%s: the server answers %s: check the URL%s", where, resp.Status, detail(resp))
	}
}

// detail is what the server wrote, if that can be one line for a user.
func detail(resp *http.Response) string {
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
	text := strings.Join(strings.Fields(string(raw)), " ")
	if text == "" || strings.Contains(strings.ToLower(text), "<html") || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == '\uFFFD' }) {
		return ""
	}
	return " (it says: " + text + ")"
}

// Explain tells failures to connect that last from those that may pass.
func Explain(u *url.URL, err error) error {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		verify    *tls.CertificateVerificationError
		record    tls.RecordHeaderError
		refused   *refusedError
		inner     *url.Error
	)
	if errors.As(err, &inner) {
		// Its text repeats the method and the URL, maybe with a token in it.
		err = inner.Err
	}
	switch {
	case errors.As(err, &refused):
		return source.Fatalf(source.ReasonDenied, "%s: %w", u.Redacted(), refused)
	case errors.As(err, &authority):
		return source.Fatalf(source.ReasonUnusable, "%s: the server's certificate is signed by an authority that is not trusted: give the source a certConfigMap with the right one: %w", u.Redacted(), err)
	case errors.As(err, &name), errors.As(err, &invalid), errors.As(err, &verify):
		return source.Fatalf(source.ReasonUnusable, "%s: the server's certificate does not fit: %w", u.Redacted(), err)
	case errors.As(err, &record):
		return source.Fatalf(source.ReasonUnusable, "%s: the server does not speak TLS there: use http:// or the right port: %w", u.Redacted(), err)
	}
	if source, ok := source.Fatal(err); ok {
		return source
	}
	return fmt.Errorf("%s: %w", u.Redacted(), err)
}
