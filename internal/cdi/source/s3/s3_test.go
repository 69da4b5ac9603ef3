package s3

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/s3mem"

	"virtctl/internal/cdi/source"
)

// cutting ends the first responses after n bytes.
type cutting struct {
	http.Handler
	n    int
	left atomic.Int64
	sent atomic.Int64
}

func (c *cutting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.Handler.ServeHTTP(&cutWriter{ResponseWriter: w, c: c, cut: r.Method == http.MethodGet && c.left.Add(-1) >= 0}, r)
}

type cutWriter struct {
	http.ResponseWriter
	c   *cutting
	cut bool
	n   int
}

func (w *cutWriter) Write(p []byte) (int, error) {
	if w.cut && w.n+len(p) > w.c.n {
		p = p[:w.c.n-w.n]
		_, _ = w.ResponseWriter.Write(p)
		http.NewResponseController(w.ResponseWriter).Flush()
		w.c.sent.Add(int64(len(p)))
		panic(http.ErrAbortHandler)
	}
	n, err := w.ResponseWriter.Write(p)
	w.n += n
	w.c.sent.Add(int64(n))
	return n, err
}

func policy() source.Policy {
	return source.Policy{Stall: 5 * time.Second, Attempts: 3, Progress: 1, FirstDelay: time.Millisecond, MaxDelay: time.Millisecond}
}

func s3server(t *testing.T, data []byte) (*httptest.Server, *cutting) {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket(context.Background(), "images"); err != nil {
		t.Fatal(err)
	}
	if _, err := backend.PutObject(context.Background(), "images", "dir/disk 1+ü.img", map[string]string{}, bytes.NewReader(data), int64(len(data))); err != nil {
		t.Fatal(err)
	}
	fake := gofakes3.New(backend, gofakes3.WithV4Auth(map[string]string{"reader": "secret"}))
	cut := &cutting{Handler: fake.Server(), n: 300_000}
	server := httptest.NewServer(cut)
	server.Config.ErrorLog = nil
	t.Cleanup(server.Close)
	return server, cut
}

func read(s Source) ([]byte, error) {
	o, err := s.Object()
	if err != nil {
		return nil, err
	}
	r, err := source.NewReader(context.Background(), o, source.Start{}, policy())
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestSignedReadIsContinued(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	server, cut := s3server(t, data)
	cut.left.Store(2)
	got, err := read(Source{URL: server.URL + "/images/dir/disk%201+%C3%BC.img", AccessKey: "reader", SecretKey: "secret"})
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d of %d bytes: %v", len(got), len(data), err)
	}
	if cut.sent.Load() != int64(len(data)) {
		t.Fatalf("%d bytes were sent for %d", cut.sent.Load(), len(data))
	}
}

func TestRefusals(t *testing.T) {
	server, _ := s3server(t, []byte("x"))
	for name, s := range map[string]Source{
		"wrong key":      {URL: server.URL + "/images/dir/disk", AccessKey: "reader", SecretKey: "wrong"},
		"unknown user":   {URL: server.URL + "/images/dir/disk", AccessKey: "stranger", SecretKey: "secret"},
		"anonymous":      {URL: server.URL + "/images/dir/disk"},
		"no such object": {URL: server.URL + "/images/none", AccessKey: "reader", SecretKey: "secret"},
		"no object":      {URL: server.URL + "/images"},
		"no server":      {URL: "s3:///images/x"},
	} {
		_, err := read(s)
		if _, fatal := source.Fatal(err); !fatal || strings.Contains(err.Error(), "secret ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRegionTheServerWants(t *testing.T) {
	var regions []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		region := strings.Split(r.Header.Get("Authorization"), "/")[2]
		regions = append(regions, region)
		if region != "eu-north-7" {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-north-7</Region></Error>")
			return
		}
		http.ServeContent(w, r, "x", time.Unix(1, 0), strings.NewReader("image"))
	}))
	t.Cleanup(server.Close)
	got, err := read(Source{URL: server.URL + "/b/k", AccessKey: "reader", SecretKey: "secret"})
	if err != nil || string(got) != "image" || len(regions) != 2 {
		t.Fatalf("%q, %v, %v", got, err, regions)
	}
}

func TestRegionOfAmazonsNames(t *testing.T) {
	for host, want := range map[string]string{
		"s3.us-west-2.amazonaws.com": "us-west-2", "bucket.s3.eu-central-1.amazonaws.com": "eu-central-1", "s3-eu-west-1.amazonaws.com": "eu-west-1",
		"s3.dualstack.eu-west-3.amazonaws.com": "eu-west-3", "s3.amazonaws.com": "us-east-1", "minio.test": "us-east-1",
	} {
		if got := region(host); got != want {
			t.Errorf("%s: %s", host, got)
		}
	}
}
