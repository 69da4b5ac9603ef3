// Package images puts images into a node's containerd: the sandbox image that virt-kube carries, and archives of the user's.
package images

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"runtime"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
)

// PauseImage is the name of the sandbox image.
const PauseImage = "localhost/virt-kube/pause:1"

// pauseArchive makes an OCI layout (as a tar stream) of one layer with one file.
func pauseArchive(program []byte) (io.Reader, error) {
	var layer bytes.Buffer
	if err := writeTar(&layer, map[string][]byte{"pause": program}, 0o755); err != nil {
		return nil, err
	}
	blobs := map[string][]byte{}
	layerDesc := addBlob(blobs, imagespec.MediaTypeImageLayer, layer.Bytes())
	config, err := json.Marshal(imagespec.Image{
		Platform: imagespec.Platform{OS: "linux", Architecture: runtime.GOARCH},
		Config:   imagespec.ImageConfig{Entrypoint: []string{"/pause"}},
		RootFS:   imagespec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layerDesc.Digest}},
	})
	if err != nil {
		return nil, fmt.Errorf("make sandbox image: %w", err)
	}
	manifest, err := json.Marshal(imagespec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imagespec.MediaTypeImageManifest,
		Config: addBlob(blobs, imagespec.MediaTypeImageConfig, config),
		Layers: []imagespec.Descriptor{layerDesc},
	})
	if err != nil {
		return nil, fmt.Errorf("make sandbox image: %w", err)
	}
	desc := addBlob(blobs, imagespec.MediaTypeImageManifest, manifest)
	desc.Annotations = map[string]string{annotationImageName: PauseImage}
	index, err := json.Marshal(imagespec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []imagespec.Descriptor{desc}})
	if err != nil {
		return nil, fmt.Errorf("make sandbox image: %w", err)
	}
	blobs[imagespec.ImageIndexFile] = index
	blobs[imagespec.ImageLayoutFile] = []byte(`{"imageLayoutVersion":"1.0.0"}`)
	var out bytes.Buffer
	return &out, writeTar(&out, blobs, 0o644)
}

func addBlob(blobs map[string][]byte, mediaType string, data []byte) imagespec.Descriptor {
	d := digest.FromBytes(data)
	blobs["blobs/sha256/"+d.Encoded()] = data
	return imagespec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}

func writeTar(w io.Writer, files map[string][]byte, mode int64) error {
	t := tar.NewWriter(w)
	for name, data := range files {
		if err := t.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(data)), Format: tar.FormatPAX}); err != nil {
			return fmt.Errorf("write archive: %w", err)
		}
		if _, err := t.Write(data); err != nil {
			return fmt.Errorf("write archive: %w", err)
		}
	}
	return t.Close()
}
