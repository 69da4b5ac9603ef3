package token

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const issuer = "cdi-apiserver"

func newKey(t testing.TB) (*rsa.PrivateKey, []byte) {
	t.Helper()
	private, public, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParsePrivate(private)
	if err != nil {
		t.Fatal(err)
	}
	if parsed, err := ParsePublic(public); err != nil || !parsed.Equal(&key.PublicKey) {
		t.Fatalf("the public part is not the key's: %v", err)
	}
	return key, public
}

func sign(t testing.TB, key *rsa.PrivateKey, issuer string, now time.Time) string {
	t.Helper()
	text, err := Sign(key, issuer, Payload{Operation: Upload, Name: "disk", Namespace: "lab", Resource: Claims()}, now, Lifetime)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Whoever gets past this writes into other people's disks.
func TestVerify(t *testing.T) {
	key, public := newKey(t)
	other, _ := newKey(t)
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	good := sign(t, key, issuer, now)
	parts := strings.Split(good, ".")
	enc := base64.RawURLEncoding.EncodeToString
	none := enc([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	mac := hmac.New(sha256.New, public)
	hs := enc([]byte(`{"alg":"HS256"}`)) + "." + parts[1]
	mac.Write([]byte(hs))
	forged := parts[0] + "." + enc([]byte(`{"operation":"Upload","name":"other","namespace":"lab","iss":"cdi-apiserver","exp":99999999999,"nbf":1}`)) + "." + parts[2]
	for _, tc := range []struct {
		name, text string
		at         time.Duration
		ok         bool
	}{
		{"fresh", good, 0, true},
		{"clocks differ by less than the leeway", good, -9 * time.Second, true},
		{"from the future", good, -11 * time.Second, false},
		{"at its end", good, Lifetime + 9*time.Second, true},
		{"expired", good, Lifetime + 11*time.Second, false},
		{"another key", sign(t, other, issuer, now), 0, false},
		{"another issuer", sign(t, key, "cdi-deployment", now), 0, false},
		{"another claim under the same signature", forged, 0, false},
		{"no algorithm", none, 0, false},
		{"HMAC with the public key", hs + "." + enc(mac.Sum(nil)), 0, false},
		{"two parts", parts[0] + "." + parts[1], 0, false},
		{"four parts", good + ".x", 0, false},
		{"empty", "", 0, false},
		{"huge", strings.Repeat("a", 1<<20), 0, false},
	} {
		p, err := Verify(&key.PublicKey, issuer, tc.text, now.Add(tc.at))
		if (err == nil) != tc.ok || (err != nil && !errors.Is(err, ErrInvalid)) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if tc.ok && (p.Name != "disk" || p.Namespace != "lab" || p.Operation != Upload || p.Resource != Claims()) {
			t.Errorf("%s: %+v", tc.name, p)
		}
	}
}

// The claims and the algorithm are CDI's: other programs read them.
func TestTextIsTheContracts(t *testing.T) {
	key, _ := newKey(t)
	text := sign(t, key, issuer, time.Unix(1800000000, 0))
	body, err := base64.RawURLEncoding.DecodeString(strings.Split(text, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	want := `{"operation":"Upload","name":"disk","namespace":"lab","resource":{"group":"","version":"v1","resource":"persistentvolumeclaims"},` +
		`"iss":"cdi-apiserver","iat":1800000000,"nbf":1800000000,"exp":1800000300}`
	if string(body) != want {
		t.Errorf("%s", body)
	}
	head, err := base64.RawURLEncoding.DecodeString(strings.Split(text, ".")[0])
	if err != nil || string(head) != `{"alg":"PS256"}` {
		t.Errorf("%s %v", head, err)
	}
}

// A key that was replaced counts from the next request on; one that is being replaced does not stop uploads.
func TestFileFollowsItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "id_rsa.pub")
	write := func(data []byte) {
		if err := os.WriteFile(path+".new", data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	f := PublicFile(path)
	if _, err := f.Get(); err == nil || !strings.Contains(err.Error(), "cdi-api-signing-key") {
		t.Errorf("no file: %v", err)
	}
	first, public := newKey(t)
	write(public)
	if got, err := f.Get(); err != nil || !got.Equal(&first.PublicKey) {
		t.Errorf("the first key: %v", err)
	}
	second, public := newKey(t)
	write(append(public, '\n'))
	if got, err := f.Get(); err != nil || !got.Equal(&second.PublicKey) {
		t.Errorf("the second key: %v", err)
	}
	write([]byte("half"))
	if got, err := f.Get(); err != nil || !got.Equal(&second.PublicKey) {
		t.Errorf("while it is replaced: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.Fatal(err)
	}
	now := time.Unix(1800000000, 0)
	good := sign(f, key, issuer, now)
	f.Add(good)
	f.Add("a.b.c")
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := Verify(&key.PublicKey, issuer, text, now); err == nil && text != good {
			// The last character of base64 may carry unused bits; what it decodes to must be what was signed.
			if strings.Join(strings.Split(text, ".")[:2], ".") != strings.Join(strings.Split(good, ".")[:2], ".") {
				t.Fatalf("accepted %q", text)
			}
		}
	})
}
