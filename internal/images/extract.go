package images

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// verifier passes a blob on and turns its end into an error when the bytes did not have the digest.
type verifier struct {
	r    io.Reader
	sum  hash.Hash
	want v1.Hash
}

func newVerifier(r io.Reader, want v1.Hash) *verifier {
	return &verifier{r: r, sum: sha256.New(), want: want}
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.sum.Write(p[:n])
	if errors.Is(err, io.EOF) && (v.want.Algorithm != "sha256" || hex.EncodeToString(v.sum.Sum(nil)) != v.want.Hex) {
		return n, fmt.Errorf("blob %s does not have the digest it is called by: the file is damaged", v.want)
	}
	return n, err
}

// ExtractFile writes the bytes of one regular file of the image to w and returns how many they are. The topmost layer that has the name
// counts; max bounds the bytes. Links are not followed. The error wraps fs.ErrNotExist when there is no such file.
func (i Image) ExtractFile(w io.Writer, name string, max int64) (int64, error) {
	want := strings.TrimPrefix(path.Clean("/"+name), "/")
	layers, err := i.img.Layers()
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", i.Ref, err)
	}
	for _, l := range slices.Backward(layers) {
		n, found, err := extractFrom(w, l, want, max)
		if err != nil {
			return n, fmt.Errorf("read /%s of %s: %w", want, i.Ref, err)
		}
		if found {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%s has no file /%s: %w", i.Ref, want, fs.ErrNotExist)
}

func extractFrom(w io.Writer, l v1.Layer, want string, max int64) (n int64, found bool, err error) {
	mt, err := l.MediaType()
	if err != nil {
		return 0, false, err
	}
	stored, err := l.Compressed()
	if err != nil {
		return 0, false, err
	}
	defer stored.Close()
	plain, err := unpacker(stored, mt)
	if err != nil {
		return 0, false, err
	}
	tr := tar.NewReader(plain)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			// The stored layer is read to its end all the same: only there is its digest known.
			_, err = io.Copy(io.Discard, stored)
			return n, found, err
		}
		if err != nil {
			return n, found, err
		}
		if h.Typeflag != tar.TypeReg || strings.TrimPrefix(path.Clean("/"+h.Name), "/") != want || found {
			continue
		}
		if h.Size > max {
			return 0, true, fmt.Errorf("it has %d bytes, more than the %d allowed", h.Size, max)
		}
		if n, err = io.Copy(w, tr); err != nil {
			return n, true, err
		}
		found = true
	}
}
