package imageupload

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
)

// A server's digest is believed only if it is one: a wrong reading would tell users that good content was damaged.
func TestDigestOf(t *testing.T) {
	sum := sha256.Sum256([]byte("disk"))
	want := "sha256:" + hex.EncodeToString(sum[:])
	coded := base64.StdEncoding.EncodeToString(sum[:])
	for header, expected := range map[string]string{
		"sha-256=:" + coded + ":":                 want,
		"sha-512=:AAAA:, sha-256=:" + coded + ":": want,
		"":                            "",
		"sha-256=:" + coded[:8] + ":": "",
		"sha-256=" + coded:            "",
		"sha-256=:" + strings.Repeat("A", 44) + ":": "",
	} {
		if got := digestOf(header); got != expected {
			t.Errorf("%q gives %q, want %q", header, got, expected)
		}
	}
}

func FuzzDigestOf(f *testing.F) {
	f.Add("sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:")
	f.Add("sha-256=::,,=")
	f.Fuzz(func(t *testing.T, header string) {
		got := digestOf(header)
		if got != "" && (len(got) != len("sha256:")+2*sha256.Size || !strings.HasPrefix(got, "sha256:")) {
			t.Errorf("%q gives %q", header, got)
		}
	})
}
