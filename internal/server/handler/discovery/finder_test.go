package discovery

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
)

type world struct {
	dir    string
	finder *Finder
	found  chan types.UID
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), found: make(chan types.UID, 16)}
	mkdir(t, filepath.Join(w.dir, "pods"))
	f, err := NewFinder(w.dir, logr.Discard(), func(uid types.UID) { w.found <- uid })
	if err != nil {
		t.Fatal(err)
	}
	w.finder = f
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return w
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func (w *world) socketDir(pod string) string {
	return filepath.Join(w.dir, "pods", pod, "volumes", "kubernetes.io~empty-dir", "sockets")
}

func (w *world) listen(t *testing.T, pod string) {
	t.Helper()
	mkdir(t, w.socketDir(pod))
	// A relative name: the temporary directory may be longer than a socket's path can be.
	t.Chdir(w.socketDir(pod))
	l, err := net.Listen("unix", "launcher.sock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
}

func (w *world) expect(t *testing.T, want types.UID) {
	t.Helper()
	select {
	case got := <-w.found:
		if got != want {
			t.Fatalf("found %s, want %s", got, want)
		}
	case <-time.After(5 * time.Second):
		t.Fatalf("%s was not found", want)
	}
}

// A launcher that is missed is a VM that never starts. The kubelet makes the directories one by one, at any pace.
func TestFinderWalksDown(t *testing.T) {
	w := newWorld(t)
	w.finder.Want("aaaa")
	dir := filepath.Join(w.dir, "pods")
	for _, step := range []string{"aaaa", "volumes", "kubernetes.io~empty-dir", "sockets"} {
		dir = filepath.Join(dir, step)
		mkdir(t, dir)
	}
	w.listen(t, "aaaa")
	w.expect(t, "aaaa")
}

func TestFinderFindsWhatIsThereAndManyAtOnce(t *testing.T) {
	w := newWorld(t)
	w.listen(t, "old")
	w.finder.Want("old")
	w.expect(t, "old")
	seen := map[types.UID]bool{}
	pods := []types.UID{"p1", "p2", "p3", "p4"}
	for _, p := range pods {
		w.finder.Want(p)
		w.finder.Want(p) // asking twice must not answer twice
	}
	for _, p := range pods {
		w.listen(t, string(p))
	}
	for range pods {
		select {
		case p := <-w.found:
			if seen[p] {
				t.Fatalf("%s was found twice", p)
			}
			seen[p] = true
		case <-time.After(5 * time.Second):
			t.Fatalf("found only %v", seen)
		}
	}
	w.finder.mu.Lock()
	defer w.finder.mu.Unlock()
	if len(w.finder.wanted) != 0 || len(w.finder.watched) != 0 {
		t.Errorf("still watching %v for %v", w.finder.watched, w.finder.wanted)
	}
}

// A pod that goes away before its launcher came, and comes again under the same directory, must not confuse the watches.
func TestFinderDirectoryReplaced(t *testing.T) {
	w := newWorld(t)
	mkdir(t, filepath.Join(w.dir, "pods", "aaaa", "volumes"))
	w.finder.Want("aaaa")
	if err := os.RemoveAll(filepath.Join(w.dir, "pods", "aaaa")); err != nil {
		t.Fatal(err)
	}
	w.listen(t, "aaaa")
	w.expect(t, "aaaa")
	w.finder.Want("bbbb")
	w.finder.Forget("bbbb")
	w.finder.Want("../../etc")
	w.listen(t, "bbbb")
	w.listen(t, "cccc")
	w.finder.Want("cccc")
	w.expect(t, "cccc")
}
