//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestShellAndFiles: with nothing but permissions on the API, a user has a shell in a machine and moves files both ways.
func TestShellAndFiles(t *testing.T) {
	j := start(t)
	key := filepath.Join(t.TempDir(), "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	j.boot("shell", "--user", "root", "--ssh-key", string(public))
	// Host keys are made anew for each guest: nothing is remembered of them.
	flags := []string{"-i", key, "-t", "-o StrictHostKeyChecking=no", "-t", "-o UserKnownHostsFile=/dev/null", "-t", "-o LogLevel=ERROR"}
	remote := func(args ...string) []string { return append(args, flags...) }

	j.want("a command's output", j.virtctl(remote("ssh", "root@vm/shell", "--command", "uname")...), "Linux\n")
	if r := j.try("", remote("ssh", "root@vm/shell", "--command", "exit 7")...); r.Code != 7 {
		t.Errorf("a command that ends with 7 ended with %d\n%s", r.Code, r.Stderr)
	}
	there, back := filepath.Join(t.TempDir(), "there"), filepath.Join(t.TempDir(), "back")
	const text = "carried there and back\n"
	if err := os.WriteFile(there, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	j.virtctl(remote("scp", there, "root@vm/shell:/tmp/file")...)
	j.virtctl(remote("scp", "root@vm/shell:/tmp/file", back)...)
	got, err := os.ReadFile(back)
	if err != nil {
		t.Fatal(err)
	}
	j.want("the file that came back", string(got), text)
	j.refused(3, `there is no virtual machine "nobody"`, "port-forward", "vm/nobody", "0:22")
}
