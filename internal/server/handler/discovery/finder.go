package discovery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/fsnotify/fsnotify"
	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"

	"virtctl/internal/libvirt/layout"
)

// Finder waits for the sockets of pods.
type Finder struct {
	pods   string
	found  func(types.UID)
	log    logr.Logger
	notify *fsnotify.Watcher

	mu sync.Mutex
	// wanted maps a pod to the directory that is watched for it now; watched counts how many pods watch a directory.
	wanted  map[types.UID]string
	watched map[string]int
}

// NewFinder returns a Finder for the pods of a kubelet. found is called once for each wanted pod whose socket is there; it must
// return quickly.
func NewFinder(kubeletDir string, log logr.Logger, found func(types.UID)) (*Finder, error) {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("start watching files: %w; raise fs.inotify.max_user_instances", err)
	}
	return &Finder{
		pods: filepath.Join(kubeletDir, "pods"), found: found, log: log, notify: notify,
		wanted: map[types.UID]string{}, watched: map[string]int{},
	}, nil
}

// socketPath is the way from the kubelet's pods directory to a pod's socket.
func socketPath(pod types.UID) []string {
	return []string{string(pod), "volumes", "kubernetes.io~empty-dir", layout.SocketVolume, layout.LauncherSocketName}
}

// Want waits for the pod's socket, until it is found or Forget is called.
func (f *Finder) Want(pod types.UID) {
	if !validUID(pod) {
		return
	}
	f.mu.Lock()
	if _, ok := f.wanted[pod]; ok {
		f.mu.Unlock()
		return
	}
	f.wanted[pod] = ""
	found := f.advance(pod)
	f.mu.Unlock()
	if found {
		f.found(pod)
	}
}

// Forget stops waiting for the pod.
func (f *Finder) Forget(pod types.UID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop(pod)
}

// Start handles events until ctx ends. It belongs to every replica of a manager.
func (f *Finder) Start(ctx context.Context) error {
	defer f.notify.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case event, ok := <-f.notify.Events:
			if !ok {
				return errors.New("watching files ended")
			}
			f.changed(filepath.Dir(event.Name), event.Name)
		case err, ok := <-f.notify.Errors:
			if !ok {
				return errors.New("watching files ended")
			}
			// Events were lost: look everywhere.
			f.log.Error(err, "watching for launchers")
			f.changed("", "")
		}
	}
}

// changed looks again for all pods that wait for something in one of the directories ("" means all).
func (f *Finder) changed(dirs ...string) {
	var found []types.UID
	f.mu.Lock()
	for pod, watching := range f.wanted {
		if (dirs[0] == "" || watching == dirs[0] || watching == dirs[1]) && f.advance(pod) {
			found = append(found, pod)
		}
	}
	f.mu.Unlock()
	for _, pod := range found {
		f.found(pod)
	}
}

// advance moves the pod's watch to the deepest directory that exists. It tells whether the socket is there, and then stops
// waiting. It is called with the lock held.
func (f *Finder) advance(pod types.UID) bool {
	for {
		dir, complete := f.deepest(pod)
		if complete {
			f.drop(pod)
			return true
		}
		if dir == f.wanted[pod] {
			return false
		}
		if err := f.watch(pod, dir); err != nil {
			// Gone again between the look and the watch: look once more.
			if errors.Is(err, fs.ErrNotExist) && dir != f.pods {
				continue
			}
			f.log.Error(err, "cannot wait for the launcher's socket", "pod", pod)
			return false
		}
		// Something may have appeared between the look and the watch: look once more.
	}
}

// deepest gives the deepest existing directory on the way to the pod's socket. The kubelet, not the pod, controls this way.
func (f *Finder) deepest(pod types.UID) (dir string, complete bool) {
	dir = f.pods
	for _, name := range socketPath(pod) {
		next := filepath.Join(dir, name)
		info, err := os.Lstat(next)
		if err != nil {
			return dir, false
		}
		if name == layout.LauncherSocketName {
			return dir, true
		}
		if !info.IsDir() {
			return dir, false
		}
		dir = next
	}
	return dir, false
}

func (f *Finder) watch(pod types.UID, dir string) error {
	if f.watched[dir] == 0 {
		if err := f.notify.Add(dir); err != nil {
			return fmt.Errorf("watch %s: %w", dir, err)
		}
	}
	f.watched[dir]++
	f.unwatch(f.wanted[pod])
	f.wanted[pod] = dir
	return nil
}

func (f *Finder) unwatch(dir string) {
	if dir == "" {
		return
	}
	f.watched[dir]--
	if f.watched[dir] > 0 {
		return
	}
	delete(f.watched, dir)
	// The directory may be gone, and its watch with it.
	_ = f.notify.Remove(dir)
}

func (f *Finder) drop(pod types.UID) {
	dir, ok := f.wanted[pod]
	if !ok {
		return
	}
	delete(f.wanted, pod)
	f.unwatch(dir)
}

// validUID keeps a pod's UID from being anything but one path element.
func validUID(pod types.UID) bool {
	const maxUID = 64
	if pod == "" || len(pod) > maxUID {
		return false
	}
	for _, c := range []byte(pod) {
		hex := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !hex && c != '-' {
			return false
		}
	}
	return true
}
