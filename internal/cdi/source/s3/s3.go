// Package s3 is the s3 source: an object of a bucket, named by its URL in path style.
package s3

import (
	"bytes"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go/encoding/httpbinding"

	"virtctl/internal/cdi/source"
	"virtctl/internal/cdi/source/web"
)

// Source is https://server/bucket/key and the keys to read it with; without keys it is read anonymously.
type Source struct {
	URL                  string
	AccessKey, SecretKey string
	web.Options
}

// The hash of a request without a body.
const emptyPayload = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// Object makes the file that the source names.
func (s Source) Object() (*web.Object, error) {
	text := s.URL
	if rest, ok := strings.CutPrefix(text, "s3://"); ok {
		text = "https://" + rest
	}
	u, err := web.ParseURL(text, "http", "https")
	if err != nil {
		return nil, err
	}
	if bucket, key, _ := strings.Cut(strings.Trim(u.Path, "/"), "/"); bucket == "" || (key == "" && !strings.HasSuffix(u.Hostname(), ".amazonaws.com")) {
		return nil, source.Fatalf(source.ReasonUnusable, "the s3 URL %s names no object: it must be https://server/bucket/key", u.Redacted())
	}
	// Signatures are of the path as S3 escapes it: more than URLs need.
	u.RawPath = httpbinding.EscapePath(u.Path, false)
	client, err := web.NewClient(u, s.Options)
	if err != nil {
		return nil, err
	}
	object := &web.Object{Client: client, URL: u}
	if s.AccessKey == "" && s.SecretKey == "" {
		return object, nil
	}
	signer := &signer{keys: aws.Credentials{AccessKeyID: s.AccessKey, SecretAccessKey: s.SecretKey}, region: region(u.Hostname())}
	object.Prepare, object.Refused = signer.sign, signer.otherRegion
	return object, nil
}

// signer signs for the region that the server wants, which it tells when it refuses a request.
type signer struct {
	keys   aws.Credentials
	mu     sync.Mutex
	region string
}

func (s *signer) sign(req *http.Request) error {
	s.mu.Lock()
	region := s.region
	s.mu.Unlock()
	req.Header.Set("X-Amz-Content-Sha256", emptyPayload)
	// S3 signs the path as it is sent, not escaped once more.
	v4signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	return v4signer.SignHTTP(req.Context(), s.keys, req, emptyPayload, "s3", region, time.Now())
}

var wantedRegion = regexp.MustCompile(`<Region>([a-z0-9-]{1,64})</Region>`)

// otherRegion reads the region that the server wants; true when it is not the one that was tried.
func (s *signer) otherRegion(resp *http.Response) bool {
	wanted := resp.Header.Get("X-Amz-Bucket-Region")
	if wanted == "" {
		raw, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		// The words are for the user if this is not about regions.
		resp.Body = io.NopCloser(bytes.NewReader(raw))
		if m := wantedRegion.FindSubmatch(raw); m != nil {
			wanted = string(m[1])
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if wanted == "" || wanted == s.region {
		return false
	}
	s.region = wanted
	return true
}

var amazon = regexp.MustCompile(`(?:^|\.)s3[.-](?:dualstack\.)?([a-z0-9-]+)\.amazonaws\.com`)

// region is in the names of Amazon's servers; others mostly do not care, or say what they want.
func region(host string) string {
	if m := amazon.FindStringSubmatch(host); m != nil {
		return m[1]
	}
	return "us-east-1"
}
