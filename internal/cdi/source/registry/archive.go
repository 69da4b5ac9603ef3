package registry

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"virtctl/internal/cdi/source"
)

// maxManifest bounds the documents of an archive.
const maxManifest = 4 << 20

// archive is an OCI layout in one tar file: where each of its blobs is.
type archive struct {
	path  string
	files map[string]section
}

type section struct{ offset, size int64 }

// archiveLayers reads oci-archive:/path/of/file.tar, which must be mounted into the pod.
func (m *Image) archiveLayers() ([]layer, error) {
	file := strings.TrimPrefix(m.URL, "oci-archive:")
	if rest, ok := strings.CutPrefix(file, "//"); ok {
		file = rest
	}
	a, err := openArchive(file)
	if err != nil {
		return nil, source.Fatalf(source.ReasonUnusable, "read the OCI archive %s: %w", file, err)
	}
	layers, err := m.layersOf(a)
	if err != nil {
		if _, fatal := source.Fatal(err); fatal {
			return nil, err
		}
		return nil, source.Fatalf(source.ReasonUnusable, "read the OCI archive %s: %w", file, err)
	}
	return layers, nil
}

func openArchive(file string) (*archive, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	a := &archive{path: file, files: map[string]section{}}
	for files := tar.NewReader(f); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err != nil {
			return nil, err
		}
		// The reader is at the file's first byte.
		at, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if header.Typeflag == tar.TypeReg && len(a.files) < 4096 {
			a.files[path.Clean(header.Name)] = section{at, header.Size}
		}
	}
}

func (a *archive) document(name string, into any) error {
	s, ok := a.files[name]
	if !ok || s.size > maxManifest {
		return fmt.Errorf("it has no usable %s", name)
	}
	f, err := os.Open(a.path)
	if err != nil {
		return err
	}
	defer f.Close()
	return json.NewDecoder(io.NewSectionReader(f, s.offset, s.size)).Decode(into)
}

func blobName(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

// manifest goes through indexes to the image of the platform.
func (m *Image) manifest(a *archive) (*v1.Manifest, error) {
	arch := m.Architecture
	if arch == "" {
		arch = runtime.GOARCH
	}
	name := "index.json"
	for range 4 {
		var index v1.IndexManifest
		if err := a.document(name, &index); err != nil {
			return nil, err
		}
		var next *v1.Descriptor
		for i, d := range index.Manifests {
			if next == nil || (d.Platform != nil && d.Platform.Architecture == arch) {
				next = &index.Manifests[i]
			}
		}
		if next == nil {
			return nil, errors.New("it names no image")
		}
		name = blobName(next.Digest)
		if next.MediaType.IsIndex() {
			continue
		}
		var manifest v1.Manifest
		return &manifest, a.document(name, &manifest)
	}
	return nil, errors.New("its indexes lead nowhere")
}

func (m *Image) layersOf(a *archive) ([]layer, error) {
	manifest, err := m.manifest(a)
	if err != nil {
		return nil, err
	}
	var config v1.ConfigFile
	if err := a.document(blobName(manifest.Config.Digest), &config); err != nil {
		return nil, err
	}
	if m.Architecture != "" && config.Architecture != m.Architecture {
		return nil, source.Fatalf(source.ReasonUnusable, "the image is for %s and not for %s: choose another one, or another architecture", config.Architecture, m.Architecture)
	}
	m.labels = LabelsOf(config.Config.Env)
	var layers []layer
	for i := len(manifest.Layers) - 1; i >= 0; i-- {
		digest := manifest.Layers[i].Digest
		s, ok := a.files[blobName(digest)]
		if !ok {
			return nil, fmt.Errorf("it lacks the layer %s", digest)
		}
		layers = append(layers, layer{digest: digest, blob: &part{a.path, s, digest.String()}})
	}
	return layers, nil
}

// part is a blob in the archive.
type part struct {
	path string
	section
	identity string
}

func (p *part) Open(_ context.Context, want source.Part, _ source.Info) (readCloser, source.Info, error) {
	f, err := os.Open(p.path)
	if err != nil {
		return nil, source.Info{}, err
	}
	info := source.Info{Size: p.size, Identity: p.identity, Ranges: true}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, p.offset+want.Offset, p.size-want.Offset), f}, info, nil
}
