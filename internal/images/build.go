package images

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The annotations by which a runtime learns an imported image's name: the first is containerd's, with the whole name, the
// second the OCI specification's.
const (
	annotationImageName = "io.containerd.image.name"
	annotationRefName   = "org.opencontainers.image.ref.name"
)

// Spec says what an image is.
type Spec struct {
	Refs    []string // full names with a tag; the same image is known under each
	Layers  []*Layer // from the bottom up
	Config  Config
	Created time.Time // of the image and of every file of the tar
	Output  string    // the tar to write
}

// Config is what of an image's configuration our images need.
type Config struct {
	Entrypoint   []string
	Env          []string
	User         string // "uid" or "uid:gid"
	WorkingDir   string
	Labels       map[string]string
	Architecture string // "amd64" if empty
}

// Built tells what Build wrote.
type Built struct {
	Digest   string // of the image's manifest, "sha256:..."
	Size     int64  // bytes of the compressed layers
	Unpacked int64  // bytes of the layers' tars
}

// Build writes the image as an OCI layout tar.
func Build(spec Spec) (Built, error) {
	refs, err := parseTags(spec.Refs)
	if err != nil {
		return Built{}, err
	}
	img, built, err := spec.image()
	if err != nil {
		return Built{}, fmt.Errorf("put the image %s together: %w", spec.Refs[0], err)
	}
	if err := os.MkdirAll(filepath.Dir(spec.Output), 0o755); err != nil {
		return Built{}, fmt.Errorf("make the folder for %s: %w", spec.Output, err)
	}
	err = replaceFile(spec.Output, func(w io.Writer) error { return writeLayout(w, img, refs, spec.Created) })
	if err != nil {
		return Built{}, fmt.Errorf("write %s: %w", spec.Output, err)
	}
	return built, nil
}

func parseTags(refs []string) ([]name.Tag, error) {
	if len(refs) == 0 {
		return nil, errors.New("an image needs a name: give one such as localhost/virtctl/demo:v1")
	}
	tags := make([]name.Tag, 0, len(refs))
	for _, ref := range refs {
		tag, err := name.NewTag(ref, name.WithDefaultRegistry("docker.io"))
		if err != nil {
			return nil, fmt.Errorf("%q is not an image name with a tag: write registry/path/name:tag: %w", ref, err)
		}
		tags = append(tags, tag)
	}
	return tags, nil
}

// image assembles manifest and configuration.
func (s Spec) image() (v1.Image, Built, error) {
	var built Built
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, l := range s.Layers {
		mt, err := l.MediaType()
		if err != nil {
			return nil, built, err
		}
		add := mutate.Addendum{Layer: l, MediaType: mt, History: v1.History{Created: v1.Time{Time: s.Created.UTC()}, CreatedBy: "virtctl images"}}
		if img, err = mutate.Append(img, add); err != nil {
			return nil, built, err
		}
		built.Size += l.meta.Size
		built.Unpacked += l.meta.Unpacked
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, built, err
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture, cfg.Created = "linux", s.Config.Architecture, v1.Time{Time: s.Created.UTC()}
	if cfg.Architecture == "" {
		cfg.Architecture = "amd64"
	}
	cfg.Config = v1.Config{
		Entrypoint: s.Config.Entrypoint, Env: s.Config.Env, User: s.Config.User,
		WorkingDir: s.Config.WorkingDir, Labels: s.Config.Labels,
	}
	if img, err = mutate.ConfigFile(img, cfg); err != nil {
		return nil, built, err
	}
	digest, err := img.Digest()
	built.Digest = digest.String()
	return img, built, err
}

// blob is one content-addressed file of a layout.
type blob struct {
	hash v1.Hash
	size int64
	open func() (io.ReadCloser, error)
}

func bytesBlob(data []byte, hash v1.Hash) blob {
	return blob{hash: hash, size: int64(len(data)), open: func() (io.ReadCloser, error) { return File{Data: data}.reader() }}
}

// imageBlobs lists configuration, manifest and layers of img, sorted by digest and each once.
func imageBlobs(img v1.Image) ([]blob, error) {
	manifest, err := img.RawManifest()
	if err != nil {
		return nil, err
	}
	manifestHash, err := img.Digest()
	if err != nil {
		return nil, err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return nil, err
	}
	configHash, err := img.ConfigName()
	if err != nil {
		return nil, err
	}
	blobs := []blob{bytesBlob(manifest, manifestHash), bytesBlob(config, configHash)}
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	for _, l := range layers {
		d, err := partial.Descriptor(l)
		if err != nil {
			return nil, err
		}
		blobs = append(blobs, blob{hash: d.Digest, size: d.Size, open: l.Compressed})
	}
	slices.SortFunc(blobs, func(a, b blob) int { return compareHash(a.hash, b.hash) })
	return slices.CompactFunc(blobs, func(a, b blob) bool { return a.hash == b.hash }), nil
}

func compareHash(a, b v1.Hash) int {
	switch {
	case a.Hex < b.Hex:
		return -1
	case a.Hex > b.Hex:
		return 1
	}
	return 0
}

func writeLayout(w io.Writer, img v1.Image, refs []name.Tag, created time.Time) error {
	blobs, err := imageBlobs(img)
	if err != nil {
		return err
	}
	index, err := indexJSON(img, refs)
	if err != nil {
		return err
	}
	docker, err := dockerManifestJSON(img, refs)
	if err != nil {
		return err
	}
	out := layoutWriter{tar.NewWriter(w), created.UTC().Truncate(time.Second)}
	err = errors.Join(
		out.bytes("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)),
		out.bytes("index.json", index),
		out.bytes("manifest.json", docker),
		out.dir("blobs/"),
		out.dir("blobs/sha256/"),
	)
	if err != nil {
		return err
	}
	for _, b := range blobs {
		if err := out.blob(b); err != nil {
			return err
		}
	}
	return out.tw.Close()
}

func indexJSON(img v1.Image, refs []name.Tag) ([]byte, error) {
	desc, err := partial.Descriptor(img)
	if err != nil {
		return nil, err
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	for _, ref := range refs {
		d := *desc
		d.Platform = &v1.Platform{OS: cfg.OS, Architecture: cfg.Architecture}
		d.Annotations = map[string]string{annotationImageName: ref.Name(), annotationRefName: ref.TagStr()}
		index.Manifests = append(index.Manifests, d)
	}
	return json.Marshal(index)
}

// dockerManifestJSON is the file by which `docker load` finds the image in the same tar.
func dockerManifestJSON(img v1.Image, refs []name.Tag) ([]byte, error) {
	config, err := img.ConfigName()
	if err != nil {
		return nil, err
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	entry := struct {
		Config   string
		RepoTags []string
		Layers   []string
	}{Config: blobPath(config)}
	for _, ref := range refs {
		entry.RepoTags = append(entry.RepoTags, ref.Name())
	}
	for _, l := range layers {
		digest, err := l.Digest()
		if err != nil {
			return nil, err
		}
		entry.Layers = append(entry.Layers, blobPath(digest))
	}
	return json.Marshal([]any{entry})
}

func blobPath(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

type layoutWriter struct {
	tw      *tar.Writer
	created time.Time
}

func (l layoutWriter) bytes(file string, data []byte) error {
	return writeEntry(l.tw, File{Path: file, Mode: 0o644, Data: data}, l.created)
}

func (l layoutWriter) dir(file string) error {
	return l.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: file, Mode: 0o755, ModTime: l.created, Format: tar.FormatPAX})
}

func (l layoutWriter) blob(b blob) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: blobPath(b.hash), Size: b.size, Mode: 0o644, ModTime: l.created, Format: tar.FormatPAX}
	if err := l.tw.WriteHeader(h); err != nil {
		return err
	}
	r, err := b.open()
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(l.tw, r)
	return err
}
