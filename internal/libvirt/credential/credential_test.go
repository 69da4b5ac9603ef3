package credential

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"virtctl/internal/libvirt/wire"
)

// secret is a Secret as kubelet mounts it.
func secret(t *testing.T, values map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	data := filepath.Join(dir, "..2026_11_23")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..2026_11_23", filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	for name, value := range values {
		if err := os.WriteFile(filepath.Join(data, name), []byte(value), 0o444); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("..data/"+name, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestPublicKeys(t *testing.T) {
	one := secret(t, map[string]string{"b": "ssh-rsa B b\r\n\n# mine\n  ssh-rsa C c  ", "a": "ssh-rsa A a"})
	two := secret(t, map[string]string{"x": "ssh-ed25519 X"})
	got, err := PublicKeys(one, two)
	if want := []string{"ssh-rsa A a", "ssh-rsa B b", "ssh-rsa C c", "ssh-ed25519 X"}; err != nil || !slices.Equal(got, want) {
		t.Fatalf("%q, %v; want %q", got, err, want)
	}
}

func TestPasswords(t *testing.T) {
	got, err := Passwords(secret(t, map[string]string{"root": "pass word\n", "me": "x", "nobody": "\n"}))
	if want := []Password{{"me", "x"}, {"root", "pass word"}}; err != nil || !slices.Equal(got, want) {
		t.Fatalf("%q, %v; want %q", got, err, want)
	}
}

func TestBounds(t *testing.T) {
	many, large := map[string]string{}, map[string]string{}
	for i := range maxFiles + 1 {
		many[fmt.Sprint("k", i)] = "x"
	}
	for i := range maxBytes/maxFile + 1 {
		large[fmt.Sprint("k", i)] = strings.Repeat("x", maxFile)
	}
	for name, values := range map[string]map[string]string{
		"files": many, "bytes": large, "one file": {"a": strings.Repeat("secret", maxFile)},
		"keys": {"a": strings.Repeat("k\n", MaxKeys+1)},
	} {
		_, err := PublicKeys(secret(t, values))
		if wire.CodeOf(err) != wire.CodeInvalid || strings.Contains(err.Error(), "secretsecret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := PublicKeys(filepath.Join(t.TempDir(), "missing")); err == nil || wire.CodeOf(err) == wire.CodeInvalid {
		t.Errorf("a directory that is not there: %v", err)
	}
}

func FuzzPublicKeys(f *testing.F) {
	f.Add([]byte("ssh-rsa A a\n#x\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		keys, err := PublicKeys(secret(t, map[string]string{"k": string(content)}))
		if err != nil && wire.CodeOf(err) != wire.CodeInvalid {
			t.Fatal(err)
		}
		for _, key := range keys {
			if key == "" || strings.ContainsRune(key, '\n') || key[0] == '#' {
				t.Fatalf("key %q", key)
			}
		}
	})
}
