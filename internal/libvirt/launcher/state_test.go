package launcher

import (
	"os"
	"path/filepath"
	"testing"
)

// A TPM whose state does not reach the claim forgets its keys with the pod.
func TestLinkDir(t *testing.T) {
	dir := t.TempDir()
	at, to := filepath.Join(dir, "private/nvram"), filepath.Join(dir, "claim/nvram")
	if err := os.MkdirAll(at, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the launcher may find its own link
		if err := linkDir(at, to); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(at, "vars"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(to, "vars")); err != nil {
		t.Errorf("what was written did not reach the claim: %v", err)
	}
	// What libvirt has written already is not thrown away.
	full := filepath.Join(dir, "private/full")
	if err := os.MkdirAll(filepath.Join(full, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := linkDir(full, to); err == nil {
		t.Error("a directory with something in it was replaced")
	}
	if err := linkState(filepath.Join(dir, "none")); err != nil {
		t.Errorf("a pod without the claim: %v", err)
	}
}
