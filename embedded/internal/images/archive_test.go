package images

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Without a sandbox image that containerd takes, no pod starts: every blob must be what its descriptor says.
func TestArchive(t *testing.T) {
	r, err := pauseArchive([]byte("program"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(in); err != nil {
			t.Fatal(err)
		}
	}
	blob := func(d imagespec.Descriptor) []byte {
		t.Helper()
		data := files["blobs/sha256/"+d.Digest.Encoded()]
		if digest.FromBytes(data) != d.Digest || int64(len(data)) != d.Size {
			t.Errorf("blob %s has %d bytes", d.Digest, len(data))
		}
		return data
	}
	decode := func(data []byte, into any) {
		t.Helper()
		if err := json.Unmarshal(data, into); err != nil {
			t.Fatal(err)
		}
	}
	var index imagespec.Index
	decode(files["index.json"], &index)
	if len(index.Manifests) != 1 || index.Manifests[0].Annotations[annotationImageName] != PauseImage {
		t.Fatalf("index %+v", index)
	}
	var manifest imagespec.Manifest
	decode(blob(index.Manifests[0]), &manifest)
	var config imagespec.Image
	decode(blob(manifest.Config), &config)
	if len(manifest.Layers) != 1 || config.RootFS.DiffIDs[0] != manifest.Layers[0].Digest || config.Config.Entrypoint[0] != "/pause" {
		t.Errorf("manifest %+v, configuration %+v", manifest, config)
	}
	blob(manifest.Layers[0])
}

// The kubelet asks for images by their full name: an archive's short name has to become the same.
func TestNormalize(t *testing.T) {
	for in, want := range map[string]string{
		"busybox":               "docker.io/library/busybox:latest",
		"localhost/a/b:1":       "localhost/a/b:1",
		"quay.io/x/y@sha256:00": "quay.io/x/y@sha256:00", // not a digest: left as it is
		"UPPER":                 "UPPER",
	} {
		if got := normalize(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}
