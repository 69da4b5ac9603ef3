package beneath

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Every entry is something a tenant can put where the node agent opens a file; none may lead out of the directory.
func TestNothingLeadsOut(t *testing.T) {
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for name, target := range map[string]string{
		"file": secret, "relative": "../" + filepath.Base(outside) + "/secret", "dir": outside, "self": "/proc/self/root",
	} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(root, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "good"), []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir, err := OpenDir(root)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for _, name := range []string{"file", "relative", "dir/secret", "self/etc/passwd", "../" + filepath.Base(outside) + "/secret", secret, "fifo", "."} {
		if data, err := ReadFile(dir, name, 100); err == nil {
			t.Errorf("%s: read %q", name, data)
		}
	}
	if data, err := ReadFile(dir, "good", 5); err != nil || string(data) != "12345" {
		t.Errorf("good: %q, %v", data, err)
	}
	if _, err := ReadFile(dir, "good", 4); err == nil {
		t.Error("a file above the limit was read")
	}
}

func TestTypeOfSocket(t *testing.T) {
	root := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(root, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir, err := OpenDir(root)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	f, err := Open(dir, "s", unix.O_PATH)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if kind, _, err := Type(f); err != nil || kind != unix.S_IFSOCK {
		t.Errorf("type %o, %v", kind, err)
	}
}
