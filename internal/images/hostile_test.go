package images

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// member is one entry of a tar that somebody made up.
type member struct {
	name string
	body string
	kind byte
	link string
}

func writeTar(t testing.TB, members ...member) string {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Mode: 0o644, Typeflag: m.kind, Linkname: m.link, Size: int64(len(m.body))}
		if m.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(m.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "hostile.tar")
	if err := os.WriteFile(file, buf.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func descriptor(kind, body string) string {
	return fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.%s","digest":"sha256:%s","size":%d}`, kind, digest(body), len(body))
}

// What a downloaded file can do at worst is to be refused, with a reason.
func TestHostileTarsAreRefused(t *testing.T) {
	config := `{"os":"linux","architecture":"amd64"}`
	manifest := fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[%s]}`, descriptor("config.v1+json", config), descriptor("layer.v1.tar+gzip", "layer"))
	index := `{"schemaVersion":2,"manifests":[` + descriptor("manifest.v1+json", manifest) + `]}`
	outside := `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:../../../../etc/passwd","size":1}]}`
	loop := `{"schemaVersion":2,"manifests":[]}`
	for range maxNesting + 2 {
		loop = `{"schemaVersion":2,"manifests":[` + descriptor("index.v1+json", loop) + `]}`
	}
	whole := []member{
		{name: "index.json", body: index},
		{name: "blobs/sha256/" + digest(manifest), body: manifest},
		{name: "blobs/sha256/" + digest(config), body: config},
		{name: "blobs/sha256/" + digest("layer"), body: "layer"},
	}
	if a, err := Read(writeTar(t, whole...)); err != nil {
		t.Fatalf("the honest one: %v", err)
	} else {
		a.Close()
	}
	with := func(i int, m member) []member {
		out := append([]member{}, whole...)
		out[i] = m
		return out
	}
	for what, c := range map[string]struct {
		members []member
		want    string
	}{
		"empty":               {nil, "no index.json"},
		"digest is a path":    {with(0, member{name: "index.json", body: outside}), "index"},
		"index is a link":     {with(0, member{name: "index.json", kind: tar.TypeSymlink, link: "/etc/passwd"}), "no index.json"},
		"manifest altered":    {with(1, member{name: "blobs/sha256/" + digest(manifest), body: manifest + " "}), "digest"},
		"manifest missing":    {with(1, member{name: "blobs/sha256/../../escape", body: manifest}), "missing"},
		"config missing":      {with(2, member{name: "other", body: config}), "missing"},
		"layer too short":     {with(3, member{name: "blobs/sha256/" + digest("layer"), body: "la"}), "should have 5"},
		"layer missing":       {with(3, member{name: "other", body: "layer"}), "missing"},
		"index is no JSON":    {with(0, member{name: "index.json", body: "{"}), "index"},
		"index is huge":       {with(0, member{name: "index.json", body: strings.Repeat(" ", maxManifest+1)}), "honest"},
		"indexes inside each": {append(whole[1:], nested(t, loop)...), "nested"},
	} {
		a, err := Read(writeTar(t, c.members...))
		if err == nil {
			a.Close()
			t.Errorf("%s: taken", what)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v does not say %q", what, err, c.want)
		}
	}
}

// nested returns the members for an index of indexes, from the outermost.
func nested(t *testing.T, outer string) []member {
	t.Helper()
	members := []member{{name: "index.json", body: outer}}
	inner := `{"schemaVersion":2,"manifests":[]}`
	for range maxNesting + 2 {
		members = append(members, member{name: "blobs/sha256/" + digest(inner), body: inner})
		inner = `{"schemaVersion":2,"manifests":[` + descriptor("index.v1+json", inner) + `]}`
	}
	return members
}

// A layer that is not what its digest says is noticed while it is read, whatever reads it.
func TestDamagedLayerIsNoticed(t *testing.T) {
	dir := t.TempDir()
	out, _ := build(t, dir, sample(), Gzip)
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := os.ReadFile(filepath.Join(dir, "layer"))
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, blob)
	data[at+4] ^= 1 // the time in gzip's header: nothing but the digest tells
	if err := os.WriteFile(out, data, 0o644); err != nil {
		t.Fatal(err)
	}
	img := read(t, out).Images[0]
	if _, err := img.ExtractFile(io.Discard, "disk/demo.qcow2", 100); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("read: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	for _, m := range [][]member{nil, {{name: "index.json", body: `{"schemaVersion":2,"manifests":[]}`}}} {
		data, err := os.ReadFile(writeTar(f, m...))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	honest, _ := build(f, f.TempDir(), sample(), Gzip)
	data, err := os.ReadFile(honest)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		file := filepath.Join(t.TempDir(), "f.tar")
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		a, err := Read(file)
		if err != nil {
			return
		}
		defer a.Close()
		for _, img := range a.Images {
			img.ExtractFile(io.Discard, "disk/demo.qcow2", 1<<20) //nolint:errcheck // it may fail, not hang or crash
		}
	})
}
