package hotplug

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// pod is a mount namespace with a directory that only it has.
func pod(t *testing.T, dir string, fill func()) *os.File {
	t.Helper()
	type result struct {
		mounts *os.File
		err    error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		r := result{err: unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS)}
		if r.err == nil {
			r.err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if r.err == nil {
			r.err = unix.Mount("test", dir, "tmpfs", 0, "")
		}
		if r.err == nil {
			fill()
			r.mounts, r.err = os.Open("/proc/thread-self/ns/mnt")
		}
		done <- r
	}()
	r := <-done
	if r.err != nil {
		t.Fatalf("make a mount namespace (this test runs as root): %v", r.err)
	}
	t.Cleanup(func() { _ = r.mounts.Close() })
	return r.mounts
}

// in reads or writes a file as a pod sees it.
func in(t *testing.T, mounts *os.File, fn func() error) {
	t.Helper()
	err := inNamespaces(func() error {
		if err := unix.Setns(int(mounts.Fd()), unix.CLONE_NEWNS); err != nil {
			return err
		}
		return fn()
	})
	if err != nil {
		t.Error(err)
	}
}

// What the guest writes must reach the volume, and nothing may be left of it in the pod or on the node.
func TestBind(t *testing.T) {
	held, disks := t.TempDir(), t.TempDir()
	from := Place{Dir: held, Name: "disk.img"}
	from.Mounts = pod(t, held, func() {
		_ = os.WriteFile(filepath.Join(held, "disk.img"), []byte("before"), 0o600)
		_ = os.Symlink("/etc/passwd", filepath.Join(held, "link"))
		_ = os.Mkdir(filepath.Join(held, "dir"), 0o700)
	})
	to := Place{Mounts: pod(t, disks, func() {}), Dir: disks, Name: "data.img"}
	for range 2 { // a second time, after a restart of the agent, changes nothing
		if v, err := Bind(from, to, 107); err != nil || v.Block {
			t.Fatalf("%+v, %v", v, err)
		}
	}
	in(t, to.Mounts, func() error { return os.WriteFile(filepath.Join(disks, "data.img"), []byte("after!"), 0o600) })
	in(t, from.Mounts, func() error {
		if got, err := os.ReadFile(filepath.Join(held, "disk.img")); err != nil || !bytes.Equal(got, []byte("after!")) {
			t.Errorf("the volume holds %q, %v", got, err)
		}
		return nil
	})
	if entries, err := os.ReadDir(disks); err != nil || len(entries) != 0 {
		t.Errorf("the node sees %v, %v", entries, err)
	}
	for range 2 {
		if _, err := Release(to); err != nil {
			t.Fatal(err)
		}
	}
	in(t, to.Mounts, func() error {
		if entries, err := os.ReadDir(disks); err != nil || len(entries) != 0 {
			t.Errorf("the pod still has %v, %v", entries, err)
		}
		return nil
	})
}

// Whoever fills the volume, or runs in the launcher pod, must not lead the agent elsewhere (CVE-2022-1798).
func TestBindRefuses(t *testing.T) {
	held, disks, secret := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("node"), 0o600); err != nil {
		t.Fatal(err)
	}
	mounts := pod(t, held, func() {
		_ = os.WriteFile(filepath.Join(held, "disk.img"), nil, 0o600)
		_ = os.Symlink(secret, filepath.Join(held, "link"))
		_ = unix.Mkfifo(filepath.Join(held, "fifo"), 0o600)
	})
	into := pod(t, disks, func() { _ = os.Symlink(secret, filepath.Join(disks, "trap.img")) })
	good := Place{Mounts: mounts, Dir: held, Name: "disk.img"}
	for _, c := range []struct{ from, to Place }{
		{Place{mounts, held, "link"}, Place{into, disks, "a"}},
		{Place{mounts, held, "fifo"}, Place{into, disks, "a"}},
		{Place{mounts, held, "../secret"}, Place{into, disks, "a"}},
		{Place{mounts, held, ""}, Place{into, disks, "a"}},
		{good, Place{into, disks, "../a"}},
		{good, Place{into, disks, ".."}},
	} {
		if _, err := Bind(c.from, c.to, 107); err == nil {
			t.Errorf("%s to %s was done", c.from.Name, c.to.Name)
		}
	}
	// A link in the volume's place goes; what it led to stays.
	if _, err := Bind(good, Place{into, disks, "trap.img"}, 107); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(secret); err != nil || string(got) != "node" {
		t.Errorf("the node's file is %q, %v", got, err)
	}
}
