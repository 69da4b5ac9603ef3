package upload

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/stream"
)

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

func TestUploadOnEveryPath(t *testing.T) {
	data := random(3 << 20)
	for _, path := range []string{"/v1beta1/upload", "/v1alpha1/upload", "/v1beta1/upload-async", "/v1alpha1/upload-async", "/v1beta1/upload-form", "/v1beta1/upload-form-async"} {
		t.Run(path, func(t *testing.T) {
			g := newTarget(t).start()
			if r := g.send(http.MethodHead, path, nil); r.StatusCode != 200 || r.Header.Get(names.HeaderOffset) != "0" {
				t.Fatalf("HEAD: %s %v", r.Status, r.Header)
			}
			var content io.Reader = bytes.NewReader(data)
			kind := "application/octet-stream"
			if strings.Contains(path, "form") {
				content, kind = form(t, data)
			}
			r := g.send(http.MethodPost, path, content, "Content-Type", kind)
			if r.StatusCode != 200 || r.Header.Get(names.HeaderDigest) != digest(data) {
				t.Fatalf("%s %v %s", r.Status, r.Header, r.text)
			}
			if res := g.mustEnd(); res.SourceBytes != int64(len(data)) || res.Clone || res.DeadlinePassed {
				t.Fatalf("%+v", res)
			}
			g.disk(data)
		})
	}
}

func form(t *testing.T, data []byte) (io.Reader, string) {
	t.Helper()
	b := &bytes.Buffer{}
	w := multipart.NewWriter(b)
	_ = w.WriteField("other", "x")
	part, err := w.CreateFormFile(names.FormField, "disk.img")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = part.Write(data)
	w.Close()
	return b, w.FormDataContentType()
}

func TestWhoMayUpload(t *testing.T) {
	g := newTarget(t).start()
	for name, c := range map[string]*http.Client{
		"no certificate": g.client("", nil), "another name": g.client("somebody", g.ca),
	} {
		for _, method := range []string{http.MethodPost, http.MethodHead} {
			req, _ := http.NewRequest(method, g.url+"/v1beta1/upload", strings.NewReader("x"))
			r, err := c.Do(req)
			if err != nil {
				t.Fatalf("%s %s: %v", method, name, err)
			}
			r.Body.Close()
			if r.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s %s: %s", method, name, r.Status)
			}
		}
	}
	if r, err := g.client(names.UploadClientName, newAuthority(t)).Get(g.url + "/healthz"); err == nil {
		r.Body.Close()
		t.Errorf("a certificate of another authority: %s", r.Status)
	}
	r, err := g.client("", nil).Get(g.url + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != 200 {
		t.Errorf("the kubelet's question: %s", r.Status)
	}
	for _, path := range []string{"/v1beta1/upload", "/v1beta1/other", "/"} {
		if r := g.send(http.MethodGet, path, nil); r.StatusCode != http.StatusNotFound {
			t.Errorf("GET %s: %s", path, r.Status)
		}
	}
}

// A pipe that stops half-way, as a client does that is killed.
type cut struct {
	r io.Reader
	n int64
}

func (c *cut) Read(p []byte) (int, error) {
	if c.n <= 0 {
		return 0, errors.New("killed")
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.n)])
	c.n -= int64(n)
	return n, err
}

func (g *target) offset() int64 {
	g.t.Helper()
	r := g.send(http.MethodHead, "/v1beta1/upload", nil)
	n, err := strconv.ParseInt(r.Header.Get(names.HeaderOffset), 10, 64)
	if err != nil {
		g.t.Fatalf("%s %v", r.Status, r.Header)
	}
	return n
}

// A client that was told of nothing, for the server was just about to keep what had come, is told when it sends.
func TestKeptMeanwhile(t *testing.T) {
	data := random(16 << 20)
	g := newTarget(t).start()
	header := []string{names.HeaderIdentity, "mine", names.HeaderLength, fmt.Sprint(len(data)), names.HeaderOffset, "0"}
	if r, err := g.try(http.MethodPost, "/v1beta1/upload", &cut{bytes.NewReader(data), 9 << 20}, header...); err == nil {
		t.Fatalf("a cut upload: %s %s", r.Status, r.text)
	}
	for g.offset() < 8<<20 {
	}
	if r := g.send(http.MethodPost, "/v1beta1/upload", bytes.NewReader(data[:10]), header...); r.StatusCode != http.StatusConflict ||
		r.Header.Get(names.HeaderOffset) != fmt.Sprint(g.offset()) {
		t.Fatalf("%s %v %s", r.Status, r.Header, r.text)
	}
	offset := g.offset()
	header[5] = fmt.Sprint(offset)
	if r := g.send(http.MethodPost, "/v1beta1/upload", bytes.NewReader(data[offset:]), header...); r.StatusCode != 200 {
		t.Fatalf("%s %s", r.Status, r.text)
	}
	g.mustEnd()
	g.disk(data)
}

// The pod is killed after its answer, before anybody has read its result: the next one has everything already.
func TestLostResult(t *testing.T) {
	data := random(5 << 20)
	g := newTarget(t).start()
	length := fmt.Sprint(len(data))
	header := []string{names.HeaderIdentity, "mine", names.HeaderLength, length}
	if r := g.send(http.MethodPost, "/v1beta1/upload", bytes.NewReader(data), header...); r.StatusCode != 200 {
		t.Fatalf("%s %s", r.Status, r.text)
	}
	g.mustEnd()
	g.start()
	if offset := g.offset(); offset != int64(len(data)) {
		t.Fatalf("of %s bytes %d are safe", length, offset)
	}
	r := g.send(http.MethodPost, "/v1beta1/upload", http.NoBody, append(header, names.HeaderOffset, length)...)
	if r.StatusCode != 200 || r.Header.Get(names.HeaderDigest) != digest(data) {
		t.Fatalf("%s %v %s", r.Status, r.Header, r.text)
	}
	g.mustEnd()
	g.disk(data)
}

// The client is killed, and then the pod: what arrived stays.
func TestCutUploadGoesOn(t *testing.T) {
	data := random(16 << 20)
	g := newTarget(t).start()
	length := fmt.Sprint(len(data))
	if r, err := g.try(http.MethodPost, "/v1beta1/upload", &cut{bytes.NewReader(data), 9 << 20}, names.HeaderIdentity, "mine", names.HeaderLength, length); err == nil {
		t.Fatalf("a cut upload: %s %s", r.Status, r.text)
	}
	// The server reads what was sent before the cut.
	for g.offset() < 8<<20 {
	}
	g.stop(errors.New("terminated"))
	if out := <-g.results; out.err == nil {
		t.Fatalf("a pod that is ended says it is done: %+v", out)
	}
	g.start()
	r := g.send(http.MethodHead, "/v1beta1/upload", nil)
	if r.Header.Get(names.HeaderIdentity) != "mine" || r.Header.Get(names.HeaderLength) != length {
		t.Fatalf("%v", r.Header)
	}
	offset := g.offset()
	if offset < 8<<20 || offset > 9<<20 {
		t.Fatalf("%d of %d bytes are safe", offset, 9<<20)
	}
	for name, h := range map[string][]string{
		"another offset":   {names.HeaderIdentity, "mine", names.HeaderOffset, "5"},
		"another content":  {names.HeaderIdentity, "other", names.HeaderOffset, fmt.Sprint(offset)},
		"another length":   {names.HeaderIdentity, "mine", names.HeaderOffset, fmt.Sprint(offset), names.HeaderLength, "99999999"},
		"without identity": {names.HeaderOffset, fmt.Sprint(offset)},
	} {
		r := g.send(http.MethodPost, "/v1beta1/upload", bytes.NewReader(data[:10]), h...)
		if r.StatusCode != http.StatusConflict && r.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s", name, r.Status)
		}
		if name == "another offset" && r.Header.Get(names.HeaderOffset) != fmt.Sprint(offset) {
			t.Errorf("the right offset is missing: %v", r.Header)
		}
	}
	r = g.send(http.MethodPost, "/v1beta1/upload", bytes.NewReader(data[offset:]), names.HeaderIdentity, "mine", names.HeaderLength, length, names.HeaderOffset, fmt.Sprint(offset))
	if r.StatusCode != 200 || r.Header.Get(names.HeaderDigest) != digest(data) {
		t.Fatalf("%s %v %s", r.Status, r.Header, r.text)
	}
	g.mustEnd()
	g.disk(data)
}

// hanging gives its data and then nothing, until it is closed.
type hanging struct {
	io.Reader
	ended chan struct{}
}

func (h *hanging) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p)
	if err == nil {
		return n, nil
	}
	<-h.ended
	return 0, io.ErrUnexpectedEOF
}

func TestOneUploadAtATime(t *testing.T) {
	data := random(8 << 20)
	g := newTarget(t).start()
	h := &hanging{bytes.NewReader(data[:5<<20]), make(chan struct{})}
	first := make(chan error, 1)
	go func() {
		r, err := g.try(http.MethodPost, "/v1beta1/upload", h, names.HeaderIdentity, "mine", names.HeaderLength, fmt.Sprint(len(data)))
		if err == nil && r.StatusCode != 200 {
			err = errors.New(r.Status)
		}
		first <- err
	}()
	// The first one is at work when a checkpoint is there.
	for g.offset() == 0 {
	}
	if r := g.send(http.MethodPost, "/v1beta1/upload", bytes.NewReader(data)); r.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("a second upload: %s", r.Status)
	}
	// The same content over a new connection takes over: the old one may be dead without the server knowing.
	offset := g.offset()
	r := g.send(http.MethodPost, "/v1beta1/upload", bytes.NewReader(data[offset:]), names.HeaderIdentity, "mine", names.HeaderLength, fmt.Sprint(len(data)), names.HeaderOffset, fmt.Sprint(offset))
	if r.StatusCode == http.StatusConflict {
		offset, _ = strconv.ParseInt(r.Header.Get(names.HeaderOffset), 10, 64)
		r = g.send(http.MethodPost, "/v1beta1/upload", bytes.NewReader(data[offset:]), names.HeaderIdentity, "mine", names.HeaderLength, fmt.Sprint(len(data)), names.HeaderOffset, fmt.Sprint(offset))
	}
	close(h.ended)
	if r.StatusCode != 200 || r.Header.Get(names.HeaderDigest) != digest(data) {
		t.Fatalf("%s %s", r.Status, r.text)
	}
	if <-first == nil {
		t.Error("the first upload was told that it is complete")
	}
	g.mustEnd()
	g.disk(data)
}

func TestRefusedUploads(t *testing.T) {
	g := newTarget(t)
	g.config.Options.Available = 1 << 20
	g.start()
	backing := make([]byte, 1<<16)
	copy(backing, "QFI\xfb\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x68\x00\x00\x00\x0b\x00\x00\x00\x10")
	for name, c := range map[string]struct {
		path string
		data []byte
		code int
		text string
	}{
		"too large":    {"/v1beta1/upload", random(2 << 20), 400, "Saving stream failed: effective image size is larger than the reported available storage"},
		"backing file": {"/v1beta1/upload", backing, 400, "Saving stream failed: "},
		"empty":        {"/v1beta1/upload", nil, 400, "Saving stream failed: the upload is empty"},
		"no form":      {"/v1beta1/upload-form", []byte("x"), 400, "no form"},
		"no archive":   {"/v1beta1/upload-archive", random(1000), 400, "Saving stream failed: "},
	} {
		r := g.send(http.MethodPost, c.path, bytes.NewReader(c.data))
		if text := r.text; r.StatusCode != c.code || !strings.Contains(text, c.text) {
			t.Errorf("%s: %s %s", name, r.Status, text)
		}
		if entries, _ := os.ReadDir(g.config.Volume.Dir); len(entries) > 0 {
			t.Errorf("%s: %v is left", name, entries)
		}
	}
	// The server still waits for a good one.
	good := random(1 << 20)
	if r := g.send(http.MethodPost, "/v1beta1/upload", bytes.NewReader(good)); r.StatusCode != 200 {
		t.Fatalf("%s %s", r.Status, r.text)
	}
	g.mustEnd()
	g.disk(good)
}

// A claim that was full when its upload server started takes an image when it has room.
func TestRoomIsMeasuredForEachUpload(t *testing.T) {
	g := newTarget(t)
	var room atomic.Int64
	g.config.Measure = func() (stream.Options, error) {
		opts := g.config.Options
		if opts.Available = room.Load(); opts.Available == 0 {
			return opts, errors.New("the claim has no room for a disk")
		}
		return opts, nil
	}
	g.start()
	data := bytes.Repeat([]byte("image..."), 1<<18)
	for _, full := range []int64{0, 1 << 20} {
		room.Store(full)
		if r := g.send(http.MethodPost, "/v1beta1/upload", bytes.NewReader(data)); r.StatusCode != http.StatusBadRequest || !strings.Contains(r.text, "larger than the reported available storage") {
			t.Errorf("%d bytes of room: %s %s", full, r.Status, r.text)
		}
	}
	room.Store(4 << 20)
	if r := g.send(http.MethodPost, "/v1beta1/upload", bytes.NewReader(data)); r.StatusCode != http.StatusOK {
		t.Fatalf("%s %s", r.Status, r.text)
	}
	g.mustEnd()
	g.disk(data)
}

func TestDeadline(t *testing.T) {
	g := newTarget(t)
	g.config.Deadline = time.Now().Add(-time.Second)
	g.start()
	if res := g.mustEnd(); !res.DeadlinePassed {
		t.Fatalf("%+v", res)
	}
}

// Upstream's clone source sends a device as snappy frames.
func TestBlockClone(t *testing.T) {
	data := append(random(2<<20), make([]byte, 2<<20)...)
	g := newTarget(t).start()
	var packed bytes.Buffer
	w := s2.NewWriter(&packed, s2.WriterSnappyCompat())
	_, _ = w.Write(data)
	w.Close()
	r := g.send(http.MethodPost, "/v1beta1/upload", &packed, names.HeaderContentType, names.ContentBlockdevice)
	if r.StatusCode != 200 {
		t.Fatalf("%s %s", r.Status, r.text)
	}
	if res := g.mustEnd(); !res.Clone {
		t.Fatalf("%+v", res)
	}
	g.disk(data)
}

// Who leads uploads here hears of the result as soon as there is one; nobody else does.
func TestTellsItsResult(t *testing.T) {
	g := newTarget(t).start()
	for name, c := range map[string]*http.Client{"no certificate": g.client("", nil), "another name": g.client("somebody", g.ca)} {
		resp, err := c.Get(g.url + names.PathUploadResult)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
	server := New(g.config)
	ask := httptest.NewRequest(http.MethodGet, names.PathUploadResult, nil)
	ask.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{Subject: pkix.Name{CommonName: names.UploadClientName}}}}
	told, answered := httptest.NewRecorder(), make(chan struct{})
	go func() {
		defer close(answered)
		server.Handler().ServeHTTP(told, ask)
	}()
	server.finish(&Result{Result: stream.Result{SourceBytes: 7, Digest: []byte{1}}}, nil)
	<-answered
	if m := names.ParseTermination(told.Body.String()); m.Text() != names.MessageUploadComplete || m.Length != 7 || m.Digest != "sha256:01" {
		t.Errorf("told %d %s", told.Code, told.Body)
	}
}
