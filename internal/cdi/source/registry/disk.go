package registry

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"strings"

	"virtctl/internal/cdi/image"
	"virtctl/internal/cdi/source"
)

type readCloser = io.ReadCloser

// diskFolder is where a container disk has its disk.
const diskFolder = "disk/"

// disk is the file in the layer, while the layer is read.
type disk struct {
	file   io.Reader
	info   source.Info
	layer  layer
	raw    *source.Reader
	hash   hash.Hash
	hashed io.Reader // the layer as it comes
	unpack io.Closer
	err    error
}

// openDisk finds the disk: the first regular file of disk/, in the topmost layer that has one which no layer above removed.
func openDisk(ctx context.Context, layers []layer, start source.Start, policy source.Policy) (*disk, error) {
	removed := map[string]bool{}
	for _, l := range layers {
		d, err := openLayer(ctx, l, policy)
		if err != nil {
			return nil, err
		}
		found, err := d.find(removed)
		if err != nil {
			d.Close()
			return nil, err
		}
		if !found {
			d.Close()
			continue
		}
		if err := d.seek(start); err != nil {
			d.Close()
			return nil, err
		}
		return d, nil
	}
	return nil, source.Fatalf(source.ReasonUnusable, "the image is no container disk: it has no file in its folder /%s", diskFolder)
}

func openLayer(ctx context.Context, l layer, policy source.Policy) (*disk, error) {
	raw, err := source.NewReader(ctx, l.blob, source.Start{}, policy)
	if err != nil {
		return nil, err
	}
	d := &disk{layer: l, raw: raw, hash: sha256.New()}
	d.hashed = io.TeeReader(raw, d.hash)
	buffered := bufio.NewReaderSize(d.hashed, 64<<10)
	head, err := buffered.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		d.Close()
		return nil, err
	}
	_, compression := image.Sniff(head)
	unpacked, err := image.NewDecompressor(buffered, compression)
	if err != nil {
		d.Close()
		return nil, err
	}
	d.file, d.unpack = unpacked, unpacked
	d.hashed = buffered
	return d, nil
}

// find goes to the disk in the layer's tar.
func (d *disk) find(removed map[string]bool) (bool, error) {
	files := tar.NewReader(d.file)
	here := map[string]bool{}
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			for name := range here {
				removed[name] = true
			}
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("read the image's layer: %w", err)
		}
		name := strings.TrimPrefix(path.Clean("/"+header.Name), "/")
		base := path.Base(name)
		switch {
		case base == ".wh..wh..opq":
			here[path.Dir(name)+"/"] = true
		case strings.HasPrefix(base, ".wh."):
			here[path.Join(path.Dir(name), strings.TrimPrefix(base, ".wh."))] = true
		case header.Typeflag == tar.TypeReg && strings.HasPrefix(name, diskFolder) && !gone(removed, name):
			d.file = files
			// What the same disk in the same layer is, whatever the image is called.
			d.info = source.Info{Size: header.Size, Identity: d.layer.digest.String() + "/" + name}
			return true, nil
		}
	}
}

// gone says that a layer above removed the file or a folder it is in.
func gone(removed map[string]bool, name string) bool {
	for at := name; at != "." && at != "/"; at = path.Dir(at) {
		if removed[at] || removed[path.Dir(at)+"/"] {
			return true
		}
	}
	return false
}

// seek goes to where an earlier pod stopped. A compressed layer must be read from its beginning for that.
func (d *disk) seek(start source.Start) error {
	if start.Pin.Identity != "" && start.Pin.Identity != d.info.Identity {
		return fmt.Errorf("%w: the tag names another image now", source.ErrChanged)
	}
	if _, err := io.CopyN(io.Discard, d.file, start.Offset); err != nil {
		return fmt.Errorf("read again up to byte %d: %w", start.Offset, err)
	}
	return nil
}

// Info is what the image says about its disk.
func (d *disk) Info() source.Info { return d.info }

// Read reads the disk. Its end is given only when the whole layer was what its digest says.
func (d *disk) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	n, err := d.file.Read(p)
	if errors.Is(err, io.EOF) {
		if err = d.verify(); err == nil {
			err = io.EOF
		}
	}
	d.err = err
	return n, err
}

func (d *disk) verify() error {
	if _, err := io.Copy(io.Discard, d.hashed); err != nil {
		return fmt.Errorf("read the rest of the image's layer: %w", err)
	}
	if got := hex.EncodeToString(d.hash.Sum(nil)); d.layer.digest.Algorithm != "sha256" || got != d.layer.digest.Hex {
		return source.Fatalf(source.ReasonChecksum, "checksum mismatch: the image's layer %s arrived as sha256:%s: the registry is damaged, or somebody changes what it sends", d.layer.digest, got)
	}
	return nil
}

// Close ends the connection.
func (d *disk) Close() error {
	if d.unpack != nil {
		d.unpack.Close()
	}
	return d.raw.Close()
}
