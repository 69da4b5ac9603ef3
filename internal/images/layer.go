package images

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// Compression names how a layer is stored.
type Compression string

// Gzip is what every registry and runtime of the last ten years reads; Zstd unpacks about five times faster and is smaller, and
// needs containerd 1.5, CRI-O 1.20 or Docker 23.
const (
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
)

// Layer is a packed layer: a compressed tar in a file of this machine. It implements the registry library's v1.Layer.
type Layer struct {
	path string
	meta layerMeta
}

// layerMeta is kept beside the blob so that a cached layer can be used again without being read.
type layerMeta struct {
	Digest    v1.Hash         `json:"digest"`
	DiffHash  v1.Hash         `json:"diffID"`
	Size      int64           `json:"size"`
	Unpacked  int64           `json:"unpacked"`
	MediaType types.MediaType `json:"mediaType"`
}

// PackLayer writes files as a layer to blob, and its digests to blob+".json", so that LoadLayer finds it again. Every entry carries the
// time created.
func PackLayer(blob string, files []File, c Compression, created time.Time) (*Layer, error) {
	files, err := arrange(files)
	if err != nil {
		return nil, err
	}
	layer := &Layer{path: blob}
	if layer.meta.MediaType, err = c.mediaType(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(blob), 0o755); err != nil {
		return nil, fmt.Errorf("make the folder for a layer: %w", err)
	}
	err = replaceFile(blob, func(w io.Writer) error { return layer.pack(w, files, c, created) })
	if err != nil {
		return nil, fmt.Errorf("pack the layer %s: %w", blob, err)
	}
	data, err := json.Marshal(layer.meta)
	if err != nil {
		return nil, fmt.Errorf("describe the layer %s: %w", blob, err)
	}
	// Last, so that an interrupted run leaves a blob without description, which LoadLayer does not take for a layer.
	if err := os.WriteFile(blob+".json", data, 0o644); err != nil {
		return nil, fmt.Errorf("describe the layer %s: %w", blob, err)
	}
	return layer, nil
}

// LoadLayer returns a layer that PackLayer wrote. The error wraps fs.ErrNotExist when there is none.
func LoadLayer(blob string) (*Layer, error) {
	data, err := os.ReadFile(blob + ".json")
	if err != nil {
		return nil, fmt.Errorf("look for the layer %s: %w", blob, err)
	}
	layer := &Layer{path: blob}
	if err := json.Unmarshal(data, &layer.meta); err != nil {
		return nil, fmt.Errorf("read the description of layer %s (delete it to build the layer again): %w", blob, err)
	}
	info, err := os.Stat(blob)
	if err != nil {
		return nil, fmt.Errorf("look for the layer %s: %w", blob, err)
	}
	if info.Size() != layer.meta.Size {
		return nil, fmt.Errorf("the layer %s has %d bytes and should have %d: delete it to build it again", blob, info.Size(), layer.meta.Size)
	}
	return layer, nil
}

func (l *Layer) pack(w io.Writer, files []File, c Compression, created time.Time) error {
	stored, unpacked := newCounter(w), newCounter(nil)
	packer, err := c.writer(stored)
	if err != nil {
		return err
	}
	unpacked.w = packer
	tw := tar.NewWriter(unpacked)
	for _, f := range files {
		if err := writeEntry(tw, f, created); err != nil {
			return err
		}
	}
	if err := errors.Join(tw.Close(), packer.Close()); err != nil {
		return err
	}
	l.meta.Digest, l.meta.Size = stored.hash(), stored.n
	l.meta.DiffHash, l.meta.Unpacked = unpacked.hash(), unpacked.n
	return nil
}

func writeEntry(tw *tar.Writer, f File, created time.Time) error {
	var body io.ReadCloser
	var size int64
	if f.Mode.IsRegular() && !f.isHardLink() {
		var err error
		if body, size, err = f.open(); err != nil {
			return err
		}
		defer body.Close()
	}
	h, err := f.header(size)
	if err != nil {
		return err
	}
	h.ModTime = created.UTC().Truncate(time.Second)
	if err := tw.WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	if body == nil {
		return nil
	}
	if _, err := io.Copy(tw, body); err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	return nil
}

func (c Compression) mediaType() (types.MediaType, error) {
	switch c {
	case Gzip:
		return types.OCILayer, nil
	case Zstd:
		return types.OCILayerZStd, nil
	}
	return "", fmt.Errorf("unknown compression %q: use gzip or zstd", string(c))
}

func (c Compression) writer(w io.Writer) (io.WriteCloser, error) {
	if c == Zstd {
		// One goroutine: what the encoder writes must not depend on how many cores this machine has.
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault))
	}
	return gzip.NewWriterLevel(w, gzip.DefaultCompression)
}

// Digest implements v1.Layer.
func (l *Layer) Digest() (v1.Hash, error) { return l.meta.Digest, nil }

// DiffID implements v1.Layer.
func (l *Layer) DiffID() (v1.Hash, error) { return l.meta.DiffHash, nil }

// Size implements v1.Layer: the bytes of the compressed blob.
func (l *Layer) Size() (int64, error) { return l.meta.Size, nil }

// Unpacked is the size of the layer's tar in bytes, which is close to what it takes on a node's disk.
func (l *Layer) Unpacked() int64 { return l.meta.Unpacked }

// MediaType implements v1.Layer.
func (l *Layer) MediaType() (types.MediaType, error) { return l.meta.MediaType, nil }

// Compressed implements v1.Layer.
func (l *Layer) Compressed() (io.ReadCloser, error) { return os.Open(l.path) }

// Uncompressed implements v1.Layer.
func (l *Layer) Uncompressed() (io.ReadCloser, error) {
	f, err := os.Open(l.path)
	if err != nil {
		return nil, err
	}
	r, err := unpacker(f, l.meta.MediaType)
	if err != nil {
		f.Close()
		return nil, err
	}
	return readCloser{r, f}, nil
}

// unpacker undoes a layer's compression.
func unpacker(r io.Reader, t types.MediaType) (io.Reader, error) {
	switch t {
	case types.OCILayer, types.DockerLayer:
		return gzip.NewReader(r)
	case types.OCILayerZStd:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case types.OCIUncompressedLayer, types.DockerUncompressedLayer:
		return r, nil
	}
	return nil, fmt.Errorf("layer of unknown type %q", string(t))
}

type readCloser struct {
	io.Reader
	io.Closer
}

// counter passes bytes on and keeps their number and SHA-256.
type counter struct {
	w   io.Writer
	n   int64
	sum hash.Hash
}

func newCounter(w io.Writer) *counter { return &counter{w: w, sum: sha256.New()} }

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	c.sum.Write(p[:n])
	return n, err
}

func (c *counter) hash() v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(c.sum.Sum(nil))}
}

// replaceFile lets fill write a new file beside name and puts it in name's place only when everything is written.
func replaceFile(name string, fill func(io.Writer) error) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(tmp.Name())
		}
	}()
	if err := errors.Join(fill(tmp), tmp.Chmod(0o644), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), name)
}
