package discovery

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"virtctl/internal/libvirt/wire"
)

const launcherEnv = "TEST_PLAY_LAUNCHER"

// TestMain lets the test binary play a launcher: a process of its own, with a user of its own.
func TestMain(m *testing.M) {
	if os.Getenv(launcherEnv) == "" {
		os.Exit(m.Run())
	}
	if err := playLauncher(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func playLauncher() error {
	l, err := net.Listen("unix", "launcher.sock")
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return wire.Serve(context.Background(), l.(*net.UnixListener), wire.Handler{
		wire.MethodInfo: wire.Getter(func(context.Context) (wire.Info, error) {
			return wire.Info{Version: wire.Version, LauncherVersion: "test"}, nil
		}),
	})
}

func startLauncher(t *testing.T, dir string, uid uint32) {
	t.Helper()
	mkdir(t, dir)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), launcherEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: uid, Gid: uid}, Cloneflags: syscall.CLONE_NEWNET,
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start a launcher: %v (run the tests as root)", err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	buf := make([]byte, 200)
	if n, err := out.Read(buf); err != nil || strings.TrimSpace(string(buf[:n])) != "ready" {
		t.Fatalf("launcher: %q, %v", buf[:n], err)
	}
}

// openDirs lets every user reach the test's directory.
func openDirs(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "d")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func anyProcess(*os.File, types.UID) error { return nil }

// The handler must reach the real launcher, its network and its root, over a path longer than a socket's may be.
func TestConnect(t *testing.T) {
	w := &world{dir: filepath.Join(openDirs(t), strings.Repeat("long", 20))}
	pod := types.UID("8e9d0c3e-0000-4000-8000-123456789abc")
	startLauncher(t, w.socketDir(string(pod)), 107)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	peer, err := Connector{KubeletDir: w.dir, Member: anyProcess}.Connect(ctx, pod)
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	if peer.Info.LauncherVersion != "test" || peer.PID == 0 {
		t.Errorf("info %+v, pid %d", peer.Info, peer.PID)
	}
	ns, err := peer.Namespace()
	if err != nil {
		t.Fatal(err)
	}
	_ = ns.Close()
	root, err := peer.Root()
	if err != nil {
		t.Fatal(err)
	}
	_ = root.Close()
	// The process is not in a pod's cgroup, and the check that production uses says so.
	if _, err := (Connector{KubeletDir: w.dir}).Connect(ctx, pod); err == nil || !strings.Contains(err.Error(), "does not belong to pod") {
		t.Errorf("a process outside of the pod: %v", err)
	}
}

// Whoever can write into the emptyDir must not get the handler to talk to, or change the network of, something else.
func TestConnectRefuses(t *testing.T) {
	w := &world{dir: openDirs(t)}
	c := Connector{KubeletDir: w.dir, Member: anyProcess}
	startLauncher(t, w.socketDir("root"), 0)
	startLauncher(t, filepath.Join(w.dir, "elsewhere"), 107)
	mkdir(t, w.socketDir("file"))
	if err := os.WriteFile(filepath.Join(w.socketDir("file"), "launcher.sock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mkdir(t, w.socketDir("link"))
	if err := os.Symlink(filepath.Join(w.dir, "elsewhere", "launcher.sock"), filepath.Join(w.socketDir("link"), "launcher.sock")); err != nil {
		t.Fatal(err)
	}
	mkdir(t, filepath.Dir(w.socketDir("dirlink")))
	if err := os.Symlink(filepath.Join(w.dir, "elsewhere"), w.socketDir("dirlink")); err != nil {
		t.Fatal(err)
	}
	for pod, want := range map[types.UID]string{
		"root": "not the launcher", "file": "is not a socket", "link": "", "dirlink": "", "missing": "no such file",
		"../elsewhere": "not a pod's UID",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		peer, err := c.Connect(ctx, pod)
		cancel()
		if err == nil {
			peer.Close()
			t.Errorf("%s: connected", pod)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", pod, err, want)
		}
	}
}
