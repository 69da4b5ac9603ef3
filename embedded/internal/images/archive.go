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

// Image describes an image of one layer.
type Image struct {
	Name       string
	Entrypoint []string
	// Files are by path, without a leading slash; all are executable.
	Files map[string][]byte
}

// Archive makes an OCI layout of an image, as a tar stream.
func Archive(i Image) (io.Reader, error) {
	var layer bytes.Buffer
	if err := writeTar(&layer, i.Files, 0o755); err != nil {
		return nil, err
	}
	blobs := map[string][]byte{}
	layerDesc := addBlob(blobs, imagespec.MediaTypeImageLayer, layer.Bytes())
	config, err := json.Marshal(imagespec.Image{
		Platform: imagespec.Platform{OS: "linux", Architecture: runtime.GOARCH},
		Config:   imagespec.ImageConfig{Entrypoint: i.Entrypoint},
		RootFS:   imagespec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layerDesc.Digest}},
	})
	if err != nil {
		return nil, fmt.Errorf("make image %s: %w", i.Name, err)
	}
	manifest, err := json.Marshal(imagespec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imagespec.MediaTypeImageManifest,
		Config: addBlob(blobs, imagespec.MediaTypeImageConfig, config),
		Layers: []imagespec.Descriptor{layerDesc},
	})
	if err != nil {
		return nil, fmt.Errorf("make image %s: %w", i.Name, err)
	}
	desc := addBlob(blobs, imagespec.MediaTypeImageManifest, manifest)
	desc.Annotations = map[string]string{annotationImageName: i.Name}
	index, err := json.Marshal(imagespec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []imagespec.Descriptor{desc}})
	if err != nil {
		return nil, fmt.Errorf("make image %s: %w", i.Name, err)
	}
	blobs[imagespec.ImageIndexFile] = index
	blobs[imagespec.ImageLayoutFile] = []byte(`{"imageLayoutVersion":"1.0.0"}`)
	var out bytes.Buffer
	return &out, writeTar(&out, blobs, 0o644)
}

// pauseArchive is the sandbox image around its program.
func pauseArchive(program []byte) (io.Reader, error) {
	return Archive(Image{Name: PauseImage, Entrypoint: []string{"/pause"}, Files: map[string][]byte{"pause": program}})
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
