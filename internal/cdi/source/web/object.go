// Package web reads files over HTTP: the http source, and what the s3, gcs and registry sources have in common.
package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"virtctl/internal/cdi/source"
)

// UserAgent is CDI's: servers have rules for it.
const UserAgent = "cdi-golang-importer"

// Object is one file on a web server. One GET tells its size and identity and gives its bytes: a server's HEAD may be refused (signed URLs)
// or lie.
type Object struct {
	Client *http.Client
	URL    *url.URL
	// Prepare adds what a request needs: credentials, a signature. It is called for every request, since these expire.
	Prepare func(*http.Request) error
	// Refused looks at an answer that is no file; true asks for another request, which is prepared differently.
	Refused func(*http.Response) bool
}

// Open is source.Object.
func (o *Object) Open(ctx context.Context, want source.Part, pin source.Info) (io.ReadCloser, source.Info, error) {
	none, offset := source.Info{}, want.Offset
	part := byteRange(offset, pin.Size)
	if want.End > 0 {
		part = byteRange(offset, want.End)
	}
	resp, err := o.get(ctx, part, pin)
	if err == nil && o.Refused != nil && resp.StatusCode >= 300 && o.Refused(resp) {
		resp.Body.Close()
		resp, err = o.get(ctx, part, pin)
	}
	if err == nil && offset == 0 && resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		// An empty file, or a server that does not know open ranges.
		resp.Body.Close()
		resp, err = o.get(ctx, "", pin)
	}
	if err != nil {
		return nil, none, err
	}
	body, info, err := o.accept(resp, offset, pin)
	if err != nil {
		resp.Body.Close()
		return nil, none, err
	}
	return body, info, nil
}

// byteRange asks for everything from offset on. The end is named when it is known, as a few servers want it.
func byteRange(offset, size int64) string {
	if size > offset {
		return fmt.Sprintf("bytes=%d-%d", offset, size-1)
	}
	return fmt.Sprintf("bytes=%d-", offset)
}

func (o *Object) get(ctx context.Context, part string, pin source.Info) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.URL.String(), nil)
	if err != nil {
		return nil, source.Fatalf(source.ReasonUnusable, "the source URL cannot be used: %w", err)
	}
	req.Header.Set("User-Agent", UserAgent)
	// What is asked for are the file's own bytes.
	req.Header.Set("Accept-Encoding", "identity")
	if part != "" {
		req.Header.Set("Range", part)
		if condition := ifRange(pin.Identity); condition != "" {
			req.Header.Set("If-Range", condition)
		}
	}
	if o.Prepare != nil {
		if err := o.Prepare(req); err != nil {
			return nil, err
		}
	}
	resp, err := o.Client.Do(req)
	if err != nil {
		return nil, Explain(o.URL, err)
	}
	return resp, nil
}

// accept checks that the response is the file from offset on, and the same file as before.
func (o *Object) accept(resp *http.Response, offset int64, pin source.Info) (io.ReadCloser, source.Info, error) {
	info := source.Info{Size: -1, Identity: identity(resp.Header)}
	if enc := resp.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return nil, info, source.Fatalf(source.ReasonUnusable, "the server sends the file encoded as %q although it was asked not to: turn that off for this file", enc)
	}
	switch resp.StatusCode {
	case http.StatusPartialContent:
		from, total, err := contentRange(resp.Header.Get("Content-Range"))
		if err != nil || from != offset {
			return nil, info, source.Fatalf(source.ReasonUnusable, "the server answers a request for bytes from %d on with the range %q: it cannot be trusted with parts of a file", offset, resp.Header.Get("Content-Range"))
		}
		info.Size, info.Ranges = total, true
	case http.StatusOK:
		info.Size, info.Ranges = resp.ContentLength, resp.Header.Get("Accept-Ranges") == "bytes" && offset == 0
		if info.Size == 0 {
			return nil, info, source.Fatalf(source.ReasonUnusable, "%s is empty: there is nothing to import", o.URL.Redacted())
		}
	case http.StatusRequestedRangeNotSatisfiable:
		return o.outside(resp, info, offset, pin)
	default:
		return nil, info, status(o.URL, resp)
	}
	if pin.Identity != "" && !same(pin, info) {
		return nil, info, fmt.Errorf("%w (%s, %d bytes before; %s, %d bytes now)", source.ErrChanged, pin.Identity, pin.Size, info.Identity, info.Size)
	}
	if resp.StatusCode == http.StatusOK && offset > 0 {
		// The same file from its beginning: go to where it is wanted.
		if _, err := io.CopyN(io.Discard, resp.Body, offset); err != nil {
			return nil, info, fmt.Errorf("read again up to byte %d, since the server cannot continue there: %w", offset, err)
		}
	}
	return resp.Body, info, nil
}

// outside is an answer of 416: the file ends at or before offset.
func (o *Object) outside(resp *http.Response, info source.Info, offset int64, pin source.Info) (io.ReadCloser, source.Info, error) {
	if size, err := strconv.ParseInt(strings.TrimPrefix(resp.Header.Get("Content-Range"), "bytes */"), 10, 64); err == nil {
		info.Size = size
	}
	switch {
	case pin.Size == offset:
		return io.NopCloser(strings.NewReader("")), pin, nil
	case info.Size == offset:
		return nil, info, source.Fatalf(source.ReasonUnusable, "the server announced %d bytes and has only %d: the file is damaged there, or the server is", pin.Size, offset)
	case info.Size >= 0 && info.Size != pin.Size:
		return nil, info, fmt.Errorf("%w: it has %d bytes now, and %d before", source.ErrChanged, info.Size, pin.Size)
	}
	return nil, info, fmt.Errorf("the server said the file has %d bytes, and refuses to send those from %d on", pin.Size, offset)
}

func same(pin, now source.Info) bool {
	return pin.Identity == now.Identity && (pin.Size < 0 || now.Size < 0 || pin.Size == now.Size)
}

// identity is the ETag, or the time of the last change.
func identity(h http.Header) string {
	if tag := h.Get("ETag"); tag != "" {
		return tag
	}
	return h.Get("Last-Modified")
}

// ifRange is the condition that makes a server send the whole file when it changed; weak tags cannot be one.
func ifRange(identity string) string {
	if strings.HasPrefix(identity, "W/") {
		return ""
	}
	return identity
}

// contentRange reads "bytes 5-9/10".
func contentRange(text string) (from, total int64, err error) {
	text, ok := strings.CutPrefix(text, "bytes ")
	span, size, ok2 := strings.Cut(text, "/")
	first, last, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, errors.New("not a range of bytes")
	}
	from, err1 := strconv.ParseInt(first, 10, 64)
	to, err2 := strconv.ParseInt(last, 10, 64)
	total, err3 := int64(-1), error(nil)
	if size != "*" {
		total, err3 = strconv.ParseInt(size, 10, 64)
	}
	if err := errors.Join(err1, err2, err3); err != nil {
		return 0, 0, err
	}
	// Everything up to the end was asked for: less would look like a cut connection.
	if from < 0 || to < from || (total >= 0 && to >= total) {
		return 0, 0, errors.New("the range makes no sense")
	}
	return from, total, nil
}
