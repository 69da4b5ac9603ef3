package worker

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/hex"
	"hash"
	"io"
	"strings"

	"virtctl/internal/cdi/source"
)

// checksum is what a user says the source's bytes must give.
type checksum struct {
	algorithm string
	want      []byte
	begin     func() hash.Hash
	hash      hash.Hash // of what was read last
}

// parseChecksum reads "sha256:<hex>"; nil when there is none. A bare hash is told by its length, as in other tools.
func parseChecksum(text string) (*checksum, error) {
	if text = strings.TrimSpace(text); text == "" {
		return nil, nil
	}
	name, digits, ok := strings.Cut(text, ":")
	if !ok {
		name, digits = map[int]string{32: "md5", 40: "sha1", 64: "sha256", 128: "sha512"}[len(text)], text
	}
	makers := map[string]func() hash.Hash{"md5": md5.New, "sha1": sha1.New, "sha256": sha256.New, "sha512": sha512.New}
	maker := makers[strings.ReplaceAll(strings.ToLower(name), "-", "")]
	want, err := hex.DecodeString(strings.TrimSpace(digits))
	if maker == nil || err != nil || len(want) != maker().Size() {
		return nil, source.Fatalf(reasonInvalid, "the checksum %.160q cannot be read: it must be md5:, sha1:, sha256: or sha512: and the hash in hexadecimal digits", text)
	}
	return &checksum{algorithm: strings.ToLower(name), want: want, begin: maker, hash: maker()}, nil
}

// reader hashes what is read from r, from now on. Whoever still reads ahead of an earlier one changes only its hash.
func (c *checksum) reader(r io.Reader) io.Reader {
	if c == nil {
		return r
	}
	c.hash = c.begin()
	return io.TeeReader(r, c.hash)
}

// check compares once everything was read. Its text is known to CDI's controllers: "checksum mismatch".
func (c *checksum) check() error {
	if c == nil {
		return nil
	}
	got := c.hash.Sum(nil)
	if subtle.ConstantTimeCompare(got, c.want) == 1 {
		return nil
	}
	return source.Fatalf(source.ReasonChecksum, "checksum mismatch: expected %s:%x, and the source gives %x: correct the checksum, or do not trust the source", c.algorithm, c.want, got)
}
