package images

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

var someTime = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// sample has one of every kind of entry, in no order.
func sample() []File {
	return []File{
		{Path: "/usr/bin/tool", Mode: 0o755, Data: []byte("tool")},
		{Path: "bin", Mode: fs.ModeSymlink, Link: "usr/bin"},
		{Path: "aaa-first", Mode: 0o644, Link: "usr/bin/tool"},
		Dir("tmp", fs.ModeSticky|0o777, 0, 0),
		{Path: "disk/demo.qcow2", Mode: 0o440, UID: 107, GID: 107, Data: []byte("disk")},
	}
}

func build(t testing.TB, dir string, files []File, c Compression) (string, Built) {
	t.Helper()
	layer, err := PackLayer(filepath.Join(dir, "layer"), files, c, someTime)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "image.tar")
	built, err := Build(Spec{
		Refs: []string{"localhost/virtctl/demo:v1", "localhost/virtctl/demo:latest"}, Layers: []*Layer{layer},
		Config: Config{Entrypoint: []string{"/usr/bin/tool"}, User: "107:107"}, Created: someTime, Output: out,
	})
	if err != nil {
		t.Fatal(err)
	}
	return out, built
}

// Anyone who builds the same sources gets the same digest, so that a digest says something about the sources.
func TestSameInputsGiveSameBytes(t *testing.T) {
	for _, c := range []Compression{Gzip, Zstd} {
		files := sample()
		first, one := build(t, t.TempDir(), files, c)
		slices.Reverse(files)
		second, two := build(t, t.TempDir(), files, c)
		a, err := os.ReadFile(first)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(second)
		if err != nil {
			t.Fatal(err)
		}
		if one.Digest != two.Digest || !bytes.Equal(a, b) {
			t.Errorf("%s: %s and %s from the same files", c, one.Digest, two.Digest)
		}
	}
}

// A runtime finds the image under its names, with the layer's files, owners and modes.
func TestLayoutOfTheTar(t *testing.T) {
	out, built := build(t, t.TempDir(), sample(), Gzip)
	var names []string
	entries(t, out, func(h *tar.Header, body []byte) {
		names = append(names, h.Name)
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || !h.ModTime.Equal(someTime) {
			t.Errorf("%s: owner %d:%d %q, time %v", h.Name, h.Uid, h.Gid, h.Uname, h.ModTime)
		}
		if h.Name != "index.json" {
			return
		}
		var index v1.IndexManifest
		if err := json.Unmarshal(body, &index); err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{"localhost/virtctl/demo:v1", "localhost/virtctl/demo:latest"} {
			d := index.Manifests[i]
			if d.Annotations[annotationImageName] != want || d.Annotations[annotationRefName] != strings.Split(want, ":")[1] || d.Digest.String() != built.Digest {
				t.Errorf("descriptor %d: %+v", i, d)
			}
		}
	})
	if want := []string{"oci-layout", "index.json", "manifest.json", "blobs/", "blobs/sha256/"}; !slices.Equal(names[:5], want) || len(names) != 8 {
		t.Errorf("entries %q", names)
	}

	a := read(t, out)
	if got := a.Images[0]; got.Ref != "localhost/virtctl/demo:v1" || got.Digest != built.Digest || got.Platform != "linux/amd64" || got.Layers != 1 {
		t.Errorf("read back: %+v", got)
	}
	layers, err := a.Images[0].V1().Layers()
	if err != nil {
		t.Fatal(err)
	}
	plain, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	var got []string
	each(t, plain, func(h *tar.Header, _ []byte) {
		got = append(got, strings.Join([]string{h.Name, h.FileInfo().Mode().String(), h.Linkname}, " "))
		if h.Name == "disk/demo.qcow2" && (h.Uid != 107 || h.Gid != 107) {
			t.Errorf("the disk belongs to %d:%d", h.Uid, h.Gid)
		}
	})
	want := []string{
		"bin Lrwxrwxrwx usr/bin", "disk/ drwxr-xr-x ", "disk/demo.qcow2 -r--r----- ", "tmp/ dtrwxrwxrwx ",
		"usr/ drwxr-xr-x ", "usr/bin/ drwxr-xr-x ", "usr/bin/tool -rwxr-xr-x ", "aaa-first -rw-r--r-- usr/bin/tool",
	}
	if !slices.Equal(got, want) {
		t.Errorf("layer\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A rebuilt image uses the packed layer of an earlier run, but not half a one.
func TestLayerIsKept(t *testing.T) {
	blob := filepath.Join(t.TempDir(), "layer")
	if _, err := LoadLayer(blob); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no layer: %v", err)
	}
	packed, err := PackLayer(blob, sample(), Zstd, someTime)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := LoadLayer(blob)
	if err != nil {
		t.Fatal(err)
	}
	if kept.meta != packed.meta {
		t.Errorf("kept %+v, packed %+v", kept.meta, packed.meta)
	}
	if err := os.Truncate(blob, 3); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadLayer(blob); err == nil {
		t.Error("a cut layer was taken")
	}
}

func TestTreeKeepsLinksAndModes(t *testing.T) {
	root := t.TempDir()
	for _, err := range []error{
		os.MkdirAll(filepath.Join(root, "a/skipped"), 0o755),
		os.WriteFile(filepath.Join(root, "a/file"), []byte("x"), 0o600),
		os.WriteFile(filepath.Join(root, "a/skipped/file"), []byte("x"), 0o600),
		os.Link(filepath.Join(root, "a/file"), filepath.Join(root, "b")),
		os.Symlink("/etc/passwd", filepath.Join(root, "c")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	files, err := Tree(root, func(rel string, _ fs.DirEntry) bool { return rel == "a/skipped" })
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, strings.Join([]string{f.Path, f.Mode.String(), f.Link}, " "))
	}
	if want := []string{"a drwxr-xr-x ", "a/file -rw------- ", "b -rw------- a/file", "c Lrwxrwxrwx /etc/passwd"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestSpecIsChecked(t *testing.T) {
	dir := t.TempDir()
	for what, files := range map[string][]File{
		"twice": {{Path: "a", Mode: 0o644}, {Path: "./x/../a", Mode: 0o644}},
		"path":  {{Path: "..", Mode: 0o644}},
		"pipe":  {{Path: "p", Mode: fs.ModeNamedPipe}},
		"gone":  {{Path: "p", Mode: 0o644, Source: filepath.Join(dir, "none")}},
	} {
		if _, err := PackLayer(filepath.Join(dir, "l"), files, Gzip, someTime); err == nil {
			t.Errorf("%s: packed", what)
		}
	}
	if _, err := PackLayer(filepath.Join(dir, "l"), nil, "lz4", someTime); err == nil {
		t.Error("packed with an unknown compression")
	}
	for _, refs := range [][]string{nil, {"Not A Name"}, {"a@sha256:00"}} {
		if _, err := Build(Spec{Refs: refs, Output: filepath.Join(dir, "o.tar")}); err == nil {
			t.Errorf("built as %q", refs)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q %v", left, err)
	}
}

// An admin brings the images to a registry, and nodes pull what was built.
func TestPush(t *testing.T) {
	out, built := build(t, t.TempDir(), sample(), Zstd)
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	var progress bytes.Buffer
	pushed, err := Push(context.Background(), out, host+"/virt", PushOptions{Insecure: true, Progress: &progress})
	if err != nil {
		t.Fatal(err)
	}
	if want := (Pushed{host + "/virt/demo:v1", built.Digest}); len(pushed) != 2 || pushed[0] != want {
		t.Errorf("pushed %+v", pushed)
	}
	if !strings.Contains(progress.String(), "pushing "+host+"/virt/demo:v1\n") {
		t.Errorf("progress %q", progress.String())
	}
	ref, err := name.ParseReference(host+"/virt/demo:v1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	if digest, err := img.Digest(); err != nil || digest.String() != built.Digest {
		t.Errorf("the registry has %v, %v", digest, err)
	}
	if _, err := Push(context.Background(), out, "not a host", PushOptions{}); err == nil || !strings.Contains(err.Error(), "host[:port][/path]") {
		t.Errorf("bad registry: %v", err)
	}
	server.Close()
	if _, err := Push(context.Background(), out, host, PushOptions{Insecure: true}); err == nil || !strings.Contains(err.Error(), "check the registry's address") {
		t.Errorf("registry away: %v", err)
	}
}

func TestExtractFile(t *testing.T) {
	out, _ := build(t, t.TempDir(), sample(), Gzip)
	img := read(t, out).Images[0]
	var got bytes.Buffer
	if n, err := img.ExtractFile(&got, "/disk/demo.qcow2", 100); err != nil || n != 4 || got.String() != "disk" {
		t.Errorf("%d %q %v", n, got.String(), err)
	}
	if _, err := img.ExtractFile(io.Discard, "disk/demo.qcow2", 3); err == nil {
		t.Error("a file over the limit was read")
	}
	if _, err := img.ExtractFile(io.Discard, "nothing", 3); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such file: %v", err)
	}
}

func TestContainerDisk(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "guest.raw")
	if err := os.WriteFile(disk, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := ContainerDisk(disk)
	if err != nil {
		t.Fatal(err)
	}
	if f := files[1]; f.Path != "disk/guest.raw" || f.UID != 107 || f.GID != 107 || f.Mode != 0o440 {
		t.Errorf("%+v", f)
	}
	if _, err := ContainerDisk(t.TempDir()); err == nil {
		t.Error("a folder was taken for a disk")
	}
}

func read(t *testing.T, file string) *Archive {
	t.Helper()
	a, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func entries(t *testing.T, file string, do func(*tar.Header, []byte)) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	each(t, f, do)
}

func each(t *testing.T, r io.Reader, do func(*tar.Header, []byte)) {
	t.Helper()
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		do(h, body)
	}
}
