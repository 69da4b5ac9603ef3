package registry

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"virtctl/internal/cdi/source"
)

// files is a layer: names and contents, in order.
type files []struct {
	name, content string
}

func tarLayer(t *testing.T, list files) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range list {
		header := &tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.content)), Typeflag: tar.TypeReg}
		if strings.HasSuffix(f.name, "/") {
			header.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, f.content)
	}
	w.Close()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func container(t *testing.T, arch string, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	config, _ := img.ConfigFile()
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	config.Config.Env = []string{"PATH=/bin", "INSTANCETYPE_KUBEVIRT_IO_DEFAULT_PREFERENCE=fedora", "KUBEVIRT_IO_BAD=a b"}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

// server is a registry whose blobs can be cut, damaged or closed to strangers.
type server struct {
	*httptest.Server
	cut    atomic.Int64 // responses of blobs that end half-way
	sent   atomic.Int64
	damage atomic.Bool
	user   string
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); s.user != "" && (user != s.user || password != "secret") {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") && r.Header.Get("Range") != "" {
			w = &blobWriter{ResponseWriter: w, s: s, cut: s.cut.Add(-1) >= 0}
		}
		inner.ServeHTTP(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(s.Close)
	return s
}

type blobWriter struct {
	http.ResponseWriter
	s   *server
	cut bool
	n   int
}

func (b *blobWriter) Write(p []byte) (int, error) {
	if b.s.damage.Load() && len(p) > 100 {
		p = bytes.Clone(p)
		p[len(p)-1] ^= 1
	}
	if b.cut && b.n+len(p) > 100_000 {
		n, _ := b.ResponseWriter.Write(p[:max(0, 100_000-b.n)])
		b.s.sent.Add(int64(n))
		http.NewResponseController(b.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	n, err := b.ResponseWriter.Write(p)
	b.n += n
	b.s.sent.Add(int64(n))
	return n, err
}

func (s *server) push(t *testing.T, tag string, img v1.Image) string {
	t.Helper()
	ref, err := name.ParseReference(strings.TrimPrefix(s.URL, "http://") + "/disks/" + tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	return "docker://" + ref.String()
}

func read(m *Image) (string, error) {
	m.Policy = source.Policy{Stall: 5 * time.Second, Attempts: 3, Progress: 1, FirstDelay: time.Millisecond, MaxDelay: time.Millisecond}
	r, err := m.Open(context.Background(), source.Start{})
	if err != nil {
		return "", err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	return string(data), err
}

// text that does not compress to nothing.
func content(n int) string {
	var b strings.Builder
	for x := uint32(1); b.Len() < n; x = x*1664525 + 1013904223 {
		b.WriteByte(byte(x >> 24))
	}
	return b.String()
}

func TestDiskIsFound(t *testing.T) {
	s := newServer(t)
	big := content(500_000)
	cases := map[string]struct {
		layers []files
		want   string
	}{
		"one":            {[]files{{{"disk/", ""}, {"disk/vm.img", big}}}, big},
		"leading dots":   {[]files{{{"./other", "x"}, {"./disk/vm.img", "a"}}}, "a"},
		"absolute":       {[]files{{{"/disk/vm.img", "a"}}}, "a"},
		"upper wins":     {[]files{{{"disk/vm.img", "old"}}, {{"disk/vm.img", "new"}}, {{"etc/x", "y"}}}, "new"},
		"replaced":       {[]files{{{"disk/old.img", "old"}}, {{"disk/.wh.old.img", ""}}, {{"etc/x", "y"}}}, ""},
		"folder removed": {[]files{{{"disk/old.img", "old"}}, {{".wh.disk", ""}}}, ""},
		"opaque":         {[]files{{{"disk/old.img", "old"}}, {{"disk/.wh..wh..opq", ""}, {"disk/new.img", "new"}}}, "new"},
		"none":           {[]files{{{"other/vm.img", "a"}, {"diskette", "b"}, {"../disk2/x", "c"}}}, ""},
	}
	for label, c := range cases {
		t.Run(label, func(t *testing.T) {
			var layers []v1.Layer
			for _, l := range c.layers {
				layers = append(layers, tarLayer(t, l))
			}
			m := &Image{URL: s.push(t, strings.ReplaceAll(label, " ", "-")+":v1", container(t, "amd64", layers...))}
			got, err := read(m)
			if c.want == "" {
				if _, fatal := source.Fatal(err); !fatal || !strings.Contains(err.Error(), "no container disk") {
					t.Fatalf("%q, %v", got, err)
				}
				return
			}
			if err != nil || got != c.want {
				t.Fatalf("%.20q (%d bytes), %v", got, len(got), err)
			}
			if diff := cmp.Diff(map[string]string{"instancetype.kubevirt.io/default-preference": "fedora"}, m.Labels()); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

func TestCutLayerIsContinued(t *testing.T) {
	s := newServer(t)
	big := content(1 << 20)
	l := tarLayer(t, files{{"disk/vm.img", big}})
	m := &Image{URL: s.push(t, "cut:v1", container(t, "amd64", l))}
	s.cut.Store(3)
	got, err := read(m)
	if err != nil || got != big {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	size, _ := l.Size()
	if sent := s.sent.Load(); sent != size {
		t.Fatalf("%d bytes were sent for a layer of %d", sent, size)
	}
}

func TestResumeInAnotherPod(t *testing.T) {
	s := newServer(t)
	big := content(1 << 20)
	m := &Image{URL: s.push(t, "resume:v1", container(t, "amd64", tarLayer(t, files{{"disk/vm.img", big}})))}
	m.Policy = source.DefaultPolicy()
	ctx := context.Background()
	first, err := m.Open(ctx, source.Start{})
	if err != nil {
		t.Fatal(err)
	}
	pin := first.Info()
	first.Close()
	second, err := m.Open(ctx, source.Start{Offset: 600_000, Pin: pin})
	if err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(second)
	if err != nil || string(rest) != big[600_000:] {
		t.Fatalf("%d bytes, %v", len(rest), err)
	}
	s.push(t, "resume:v1", container(t, "amd64", tarLayer(t, files{{"disk/vm.img", "other"}})))
	if _, err := m.Open(ctx, source.Start{Offset: 3, Pin: pin}); !errors.Is(err, source.ErrChanged) {
		t.Fatalf("another image under the tag: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	s := newServer(t)
	url := s.push(t, "one:v1", container(t, "arm64", tarLayer(t, files{{"disk/vm.img", content(300_000)}})))
	gone := newServer(t)
	gone.user = "robot"
	for label, c := range map[string]struct {
		m    *Image
		text string
	}{
		"no tag":       {&Image{URL: strings.Replace(url, "v1", "v2", 1)}, "no such image"},
		"wrong scheme": {&Image{URL: "http://x/y"}, "docker://"},
		"bad name":     {&Image{URL: "docker://UPPER CASE"}, "cannot be read"},
		"architecture": {&Image{URL: url, Architecture: "s390x"}, "arm64"},
		"no password":  {&Image{URL: strings.Replace(url, s.URL[7:], gone.URL[7:], 1)}, "secretRef"},
		"wrong one":    {&Image{URL: strings.Replace(url, s.URL[7:], gone.URL[7:], 1), User: "robot", Password: "wrong"}, "secretRef"},
		"no archive":   {&Image{URL: "oci-archive:/nonexistent"}, "no such file"},
	} {
		_, err := read(c.m)
		if _, fatal := source.Fatal(err); !fatal || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", label, err)
		}
	}
	gone.user = ""
	url = gone.push(t, "two:v1", container(t, "amd64", tarLayer(t, files{{"disk/vm.img", content(300_000)}, {"etc/after", content(10)}})))
	gone.user = "robot"
	if got, err := read(&Image{URL: url, User: "robot", Password: "secret"}); err != nil || len(got) != 300_000 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	gone.damage.Store(true)
	if _, err := read(&Image{URL: url, User: "robot", Password: "secret"}); err == nil {
		t.Fatal("a damaged layer was accepted")
	}
}

func TestArchive(t *testing.T) {
	dir := t.TempDir()
	p, err := layout.Write(filepath.Join(dir, "layout"), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	big := content(200_000)
	if err := p.AppendImage(container(t, "amd64", tarLayer(t, files{{"disk/vm.img", big}}))); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "disk.tar")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	if err := w.AddFS(os.DirFS(filepath.Join(dir, "layout"))); err != nil {
		t.Fatal(err)
	}
	w.Close()
	f.Close()
	got, err := read(&Image{URL: "oci-archive:" + file})
	if err != nil || got != big {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

func TestLabels(t *testing.T) {
	got := LabelsOf([]string{
		"KUBEVIRT_IO_DYNAMIC_CREDENTIALS_SUPPORT=true", "INSTANCETYPE_KUBEVIRT_IO_DEFAULT_INSTANCETYPE=u1.medium",
		"OTHER=x", "KUBEVIRT_IO_=x", "no value", "_KUBEVIRT_IO_X=1\n",
	})
	want := map[string]string{"kubevirt.io/dynamic-credentials-support": "true", "instancetype.kubevirt.io/default-instancetype": "u1.medium"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}
