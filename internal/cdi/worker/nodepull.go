package worker

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/source"
	"virtctl/internal/cdi/source/registry"
	"virtctl/internal/cdi/source/web"
)

// With pullMethod node, the kubelet pulls the image and runs it; in it runs this program as a small server of its disk, and beside it an
// importer with the http source. They meet through files of a shared folder.

// NodePullServer serves the one file of the image's disk folder to the importer of the same pod, until that says it is done.
func NodePullServer(ctx context.Context, args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet("node-pull-server", flag.ContinueOnError)
	flags.SetOutput(stderr)
	port := flags.Int("p", names.PortNodePull, "port on localhost")
	dir := flags.String("image-dir", "/disk", "folder of the image")
	ready := flags.String("ready-file", filepath.Join(names.SharedDir, "ready"), "file that is made when the server is ready")
	done := flags.String("done-file", filepath.Join(names.SharedDir, "done"), "file that the importer makes when it is done")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if err := nodePull(ctx, fmt.Sprintf("localhost:%d", *port), *dir, *ready, *done); err != nil {
		fmt.Fprintln(stderr, "error:", err)
		return 1
	}
	return 0
}

func nodePull(ctx context.Context, address, dir, ready, done string) error {
	name, err := onlyFile(dir)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("serve the image's disk: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /info", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string][]string{"env": os.Environ()})
	})
	mux.Handle("/", http.FileServer(http.Dir(dir)))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer server.Close()
	if err := os.WriteFile(ready, []byte(name), 0o644); err != nil {
		return fmt.Errorf("say that the server is ready: %w", err)
	}
	defer os.Remove(ready)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { cancel(<-served) }()
	if err := waitForFile(ctx, done); err != nil {
		return err
	}
	return os.Remove(done)
}

// onlyFile is the container disk: the one file in the image's disk folder.
func onlyFile(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("this is no container disk: it has no folder %s: %w", dir, err)
	}
	if len(entries) != 1 || !entries[0].Type().IsRegular() {
		return "", fmt.Errorf("this is no container disk: %s must hold one file, and nothing else", dir)
	}
	return entries[0].Name(), nil
}

// ready waits until the server beside the importer is, if there is one, and takes its disk's name and the image's labels from it.
func (w *Worker) ready(ctx context.Context, in *input) error {
	file := w.Env(names.EnvReadyFile)
	if file == "" {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, w.ReadyTimeout, errors.New("the image's own container did not become ready: see its log, and whether the image can be pulled"))
	defer cancel()
	if err := waitForFile(ctx, file); err != nil {
		return err
	}
	object, ok := in.object.(*web.Object)
	if !ok {
		return source.Fatalf(reasonInvalid, "a ready file goes with the http source only")
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the disk's name: %w", err)
	}
	if name := strings.TrimSpace(string(raw)); name != "" {
		object.URL.Path = strings.TrimSuffix(object.URL.Path, names.DiskImage) + name
	}
	env, err := nodeInfo(ctx, object)
	if err != nil {
		return err
	}
	labels := registry.LabelsOf(env)
	in.labels = func() map[string]string { return labels }
	return nil
}

func nodeInfo(ctx context.Context, object *web.Object) ([]string, error) {
	u := *object.URL
	u.Path = "/info"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := object.Client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the image's container: %w", err)
	}
	defer resp.Body.Close()
	var info struct {
		Env []string `json:"env"`
	}
	if resp.StatusCode != http.StatusOK {
		// Servers of other versions may not have it; labels are an extra.
		return nil, nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&info); err != nil {
		return nil, fmt.Errorf("read what the image's container says: %w", err)
	}
	return info.Env, nil
}

// done tells the server beside the importer to end.
func (w *Worker) done() {
	file := w.Env(names.EnvDoneFile)
	if file == "" {
		return
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o666)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		w.logf("tell the image's container that the import is done: %v", err)
	}
}

// waitForFile waits until the file is there.
func waitForFile(ctx context.Context, file string) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch for %s: %w", file, err)
	}
	defer watcher.Close()
	if err := watcher.Add(filepath.Dir(file)); err != nil {
		return fmt.Errorf("watch for %s: %w", file, err)
	}
	for {
		// Looked for after the watch began: it cannot come unseen.
		if st, err := os.Stat(file); err == nil && st.Mode().IsRegular() {
			return nil
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("wait for %s: %w", file, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-watcher.Events:
		case err := <-watcher.Errors:
			return fmt.Errorf("watch for %s: %w", file, err)
		}
	}
}

// CopySelf puts this program into a folder that another container shares: an image without a shell has nothing to copy with.
func CopySelf(args []string, stderr io.Writer) int {
	if len(args) != 1 {
		fmt.Fprintln(stderr, "usage: cdi-worker copy-self PATH")
		return 2
	}
	if err := copySelf(args[0]); err != nil {
		fmt.Fprintln(stderr, "error:", err)
		return 1
	}
	return 0
}

func copySelf(target string) error {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("open this program: %w", err)
	}
	defer self.Close()
	f, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		return fmt.Errorf("copy this program: %w", err)
	}
	_, err = io.Copy(f, self)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("copy this program: %w", err)
	}
	return nil
}
