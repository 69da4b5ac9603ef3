package cluster

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"virtctl/embedded/internal/options"
)

// Whatever keeps a cluster from starting must be said before anything is started, together with what to do.
func TestPreflight(t *testing.T) {
	taken, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	for _, tc := range []struct {
		name string
		set  func(*machine, *options.Options)
		want []string
	}{
		{"fine", func(*machine, *options.Options) {}, nil},
		{"not root", func(m *machine, _ *options.Options) { m.uid = func() int { return 1000 } }, []string{"not root", "sudo"}},
		{"no runc", func(m *machine, _ *options.Options) { m.lookPath = without("runc") }, []string{"apt-get install runc"}},
		{
			"no runc, no nft", func(m *machine, _ *options.Options) { m.lookPath = without("runc", "nft") },
			[]string{"not installed: runc, nft", "apt-get install runc nftables"},
		},
		{
			"no losetup, no mount", func(m *machine, _ *options.Options) { m.lookPath = without("losetup", "mount") },
			[]string{"not installed: losetup, mount; run 'apt-get install mount'"},
		},
		{
			"no overlayfs", func(m *machine, _ *options.Options) { m.filesystems = filesystems(t, "nodev\ttmpfs\n\text4\n") },
			[]string{"overlayfs", "modprobe overlay"},
		},
		{
			"disk full", func(m *machine, _ *options.Options) { m.free = func(string) (uint64, error) { return 1 << 30, nil } },
			[]string{"disk full", "1024 MiB free and needs 2048", "--state-dir"},
		},
		{
			"port taken", func(_ *machine, o *options.Options) { o.APIServerPort = port },
			[]string{"port " + strconv.Itoa(port) + " is taken", "--apiserver-port"},
		},
		{"no cgroups", func(m *machine, _ *options.Options) {
			m.cgroups = func() error { return errors.New("no cgroup file system") }
		}, []string{"no cgroup"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := machine{
				uid: func() int { return 0 }, lookPath: without(), filesystems: filesystems(t, "nodev\toverlay\n"),
				free: func(string) (uint64, error) { return minFree, nil }, listen: tryListen, cgroups: func() error { return nil },
			}
			o := options.Default()
			o.StateDir, o.RunDir, o.APIServerPort = t.TempDir(), t.TempDir(), freePort(t)
			tc.set(&m, &o)
			err := m.preflight(o)
			if len(tc.want) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			for _, want := range tc.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want an error with %q", err, want)
				}
			}
		})
	}
}

// without looks programs up as on a machine that lacks some.
func without(missing ...string) func(string) (string, error) {
	return func(name string) (string, error) {
		if slices.Contains(missing, name) {
			return "", exec.ErrNotFound
		}
		return "/usr/bin/" + name, nil
	}
}

func filesystems(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "filesystems")
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Two servers on one run directory would fight over everything.
func TestLockInstance(t *testing.T) {
	o := options.Default()
	o.RunDir = t.TempDir()
	first, err := lockInstance(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockInstance(o); err == nil || !strings.Contains(err.Error(), "another instance is running") {
		t.Errorf("second: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := lockInstance(o)
	if err != nil {
		t.Errorf("after the first ended: %v", err)
	}
	_ = again.Close()
}

// A fresh machine that has only what `make deps` installs must pass.
func TestPackagesAreListed(t *testing.T) {
	text, err := os.ReadFile("../../../packages.txt")
	if err != nil {
		t.Fatal(err)
	}
	listed := strings.Fields(string(text))
	for program, pkg := range programs() {
		if !slices.Contains(listed, pkg) {
			t.Errorf("%s needs the package %s, which packages.txt does not list", program, pkg)
		}
	}
}
