package images

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// What is believed of a tar that somebody gave us.
const (
	maxEntries  = 100_000
	maxManifest = 4 << 20 // bytes of an index, manifest or configuration
	maxImages   = 256
	maxLayers   = 512
	maxNesting  = 4
)

// Archive is an OCI layout tar, open for reading.
type Archive struct {
	Images []Image

	file  *os.File
	blobs map[v1.Hash]*io.SectionReader
}

// Image is one named image of an archive.
type Image struct {
	Ref      string // the name it is known by; empty if the tar gives none
	Digest   string
	Size     int64 // bytes of the compressed layers
	Layers   int
	Platform string // "linux/amd64"
	Created  time.Time

	img v1.Image
}

// V1 is the image for the registry library.
func (i Image) V1() v1.Image { return i.img }

// Read opens an image tar and checks its table of contents. Layers are checked when they are read. Close it when done.
func Read(file string) (*Archive, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("open the image file: %w", err)
	}
	a := &Archive{file: f, blobs: map[v1.Hash]*io.SectionReader{}}
	if err := a.read(); err != nil {
		f.Close()
		return nil, fmt.Errorf("read the image file %s: %w", file, err)
	}
	return a, nil
}

// Close gives the file back; the images of the archive cannot be read after it.
func (a *Archive) Close() error { return a.file.Close() }

func (a *Archive) read() error {
	index, err := a.scan()
	if err != nil {
		return err
	}
	if index == nil {
		return errors.New("it has no index.json, so it is no OCI layout: write it with `skopeo copy ... oci-archive:FILE` or Docker 25 or newer")
	}
	return a.addIndex(index, "", 0)
}

// scan notes where each blob begins. Names serve only as keys: nothing is ever written under them.
func (a *Archive) scan() (index []byte, err error) {
	info, err := a.file.Stat()
	if err != nil {
		return nil, err
	}
	tr := tar.NewReader(a.file)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return index, nil
		}
		if err != nil {
			return nil, fmt.Errorf("it is no tar, or a damaged or compressed one (gunzip or unzstd it first): %w", err)
		}
		if n >= maxEntries {
			return nil, fmt.Errorf("more than %d entries", maxEntries)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		name := strings.TrimPrefix(h.Name, "./")
		if name == "index.json" {
			if index, err = readBounded(tr, h.Size, name); err != nil {
				return nil, err
			}
			continue
		}
		hash, ok := blobName(name)
		if !ok {
			continue
		}
		// archive/tar reads headers one block at a time: the file now stands at the first byte of the entry.
		start, err := a.file.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if start+h.Size > info.Size() {
			return nil, fmt.Errorf("blob %s is cut off", hash)
		}
		a.blobs[hash] = io.NewSectionReader(a.file, start, h.Size)
	}
}

// blobName reads "blobs/sha256/<hex>".
func blobName(name string) (v1.Hash, bool) {
	dir, hexName := path.Split(name)
	algorithm, ok := strings.CutPrefix(strings.TrimSuffix(dir, "/"), "blobs/")
	if !ok {
		return v1.Hash{}, false
	}
	h, err := v1.NewHash(algorithm + ":" + hexName)
	return h, err == nil
}

func readBounded(r io.Reader, size int64, what string) ([]byte, error) {
	if size > maxManifest {
		return nil, fmt.Errorf("%s has %d bytes, more than the %d of any honest one", what, size, maxManifest)
	}
	data, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return data, nil
}

// small returns a blob that is held in memory, checked against its digest.
func (a *Archive) small(h v1.Hash) ([]byte, error) {
	section, ok := a.blobs[h]
	if !ok {
		return nil, fmt.Errorf("blob %s is missing", h)
	}
	data, err := readBounded(io.NewSectionReader(section, 0, section.Size()), section.Size(), "blob "+h.String())
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(data); h.Algorithm != "sha256" || hex.EncodeToString(sum[:]) != h.Hex {
		return nil, fmt.Errorf("blob %s does not have the digest it is called by", h)
	}
	return data, nil
}

// addIndex adds the images of an index; those of an inner one are known by the outer one's name.
func (a *Archive) addIndex(data []byte, ref string, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("indexes are nested more than %d deep", maxNesting)
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	for _, d := range index.Manifests {
		if len(a.Images) >= maxImages {
			return fmt.Errorf("more than %d images", maxImages)
		}
		// Attestations ride along as images of no platform.
		if d.Platform != nil && d.Platform.OS == "unknown" {
			continue
		}
		name := refOf(d)
		if name == "" {
			name = ref
		}
		content, err := a.small(d.Digest)
		if err != nil {
			return err
		}
		if d.MediaType.IsIndex() {
			err = a.addIndex(content, name, depth+1)
		} else {
			err = a.addImage(d.Digest, content, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func refOf(d v1.Descriptor) string {
	if full := d.Annotations[annotationImageName]; full != "" {
		return full
	}
	return d.Annotations[annotationRefName]
}

func (a *Archive) addImage(digest v1.Hash, manifest []byte, ref string) error {
	m, err := v1.ParseManifest(bytes.NewReader(manifest))
	if err != nil {
		return fmt.Errorf("manifest %s: %w", digest, err)
	}
	if len(m.Layers) > maxLayers {
		return fmt.Errorf("manifest %s: %d layers, more than %d", digest, len(m.Layers), maxLayers)
	}
	config, err := a.small(m.Config.Digest)
	if err != nil {
		return fmt.Errorf("manifest %s: %w", digest, err)
	}
	var cfg v1.ConfigFile
	if err := json.Unmarshal(config, &cfg); err != nil {
		return fmt.Errorf("configuration of %s: %w", digest, err)
	}
	out := Image{
		Ref: ref, Digest: digest.String(), Layers: len(m.Layers),
		Platform: cfg.OS + "/" + cfg.Architecture, Created: cfg.Created.Time,
	}
	for _, l := range m.Layers {
		section, ok := a.blobs[l.Digest]
		if !ok {
			return fmt.Errorf("manifest %s: layer %s is missing", digest, l.Digest)
		}
		if section.Size() != l.Size {
			return fmt.Errorf("manifest %s: layer %s has %d bytes and should have %d", digest, l.Digest, section.Size(), l.Size)
		}
		out.Size += l.Size
	}
	out.img, err = partial.CompressedToImage(storedImage{archive: a, manifest: manifest, config: config, parsed: m})
	if err != nil {
		return fmt.Errorf("image %s: %w", digest, err)
	}
	a.Images = append(a.Images, out)
	return nil
}

// storedImage is an image whose layers stay in the archive's file.
type storedImage struct {
	archive  *Archive
	manifest []byte
	config   []byte
	parsed   *v1.Manifest
}

func (s storedImage) RawConfigFile() ([]byte, error)      { return s.config, nil }
func (s storedImage) RawManifest() ([]byte, error)        { return s.manifest, nil }
func (s storedImage) MediaType() (types.MediaType, error) { return mediaTypeOf(s.parsed), nil }
func (s storedImage) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, d := range s.parsed.Layers {
		if d.Digest == h {
			return storedLayer{s.archive, d}, nil
		}
	}
	if h == s.parsed.Config.Digest {
		return partial.ConfigLayer(s)
	}
	return nil, fmt.Errorf("the image has no layer %s", h)
}

// mediaTypeOf: the field is optional in OCI manifests.
func mediaTypeOf(m *v1.Manifest) types.MediaType {
	if m.MediaType == "" {
		return types.OCIManifestSchema1
	}
	return m.MediaType
}

type storedLayer struct {
	archive *Archive
	desc    v1.Descriptor
}

func (s storedLayer) Digest() (v1.Hash, error)            { return s.desc.Digest, nil }
func (s storedLayer) Size() (int64, error)                { return s.desc.Size, nil }
func (s storedLayer) MediaType() (types.MediaType, error) { return s.desc.MediaType, nil }
func (s storedLayer) Compressed() (io.ReadCloser, error) {
	section := s.archive.blobs[s.desc.Digest]
	return io.NopCloser(newVerifier(io.NewSectionReader(section, 0, section.Size()), s.desc.Digest)), nil
}
