package worker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/source"
	"virtctl/internal/cdi/worker/volume"
)

// The tests run the worker as its own process, as a pod does: it can be killed, and its memory measured.
const (
	envRoot    = "CDI_WORKER_TEST_ROOT"
	envCommand = "CDI_WORKER_TEST_COMMAND"
	// envSmall makes the claim a filesystem of this size.
	envSmall = "CDI_WORKER_TEST_SMALL"
	// envAddress is where an upload server listens.
	envAddress = "CDI_WORKER_TEST_ADDRESS"
)

func TestMain(m *testing.M) {
	if root := os.Getenv(envRoot); root != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if size := os.Getenv(envSmall); size != "" {
			if err := syscall.Mount("tmpfs", filepath.Join(root, "data"), "tmpfs", 0, "size="+size); err != nil {
				panic(err)
			}
		}
		code := inPod(root).Run(ctx, os.Getenv(envCommand))
		_ = os.WriteFile(filepath.Join(root, "memory"), []byte(fmt.Sprint(peak())), 0o600)
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// peak is the most memory that this process and qemu-img had together. What the kernel's accounting of a child says begins with its parent's.
func peak() int64 {
	var own int64
	status, _ := os.ReadFile("/proc/self/status")
	if _, rest, ok := bytes.Cut(status, []byte("VmHWM:")); ok {
		_, _ = fmt.Sscanf(string(rest), "%d", &own)
	}
	var children syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_CHILDREN, &children)
	return (own + children.Maxrss) << 10
}

// inPod is a worker whose pod is a folder.
func inPod(root string) *Worker {
	return &Worker{
		Env: os.Getenv, Termination: filepath.Join(root, "termination"), ExtraHeaders: filepath.Join(root, "extraheaders"),
		Image: filepath.Join(root, "shared"), Metrics: "127.0.0.1:0", Uploads: os.Getenv(envAddress), Log: os.Stderr,
		Paths: volume.Paths{
			Data: filepath.Join(root, "data"), Device: filepath.Join(root, "device"), Scratch: filepath.Join(root, "scratch"), Temp: filepath.Join(root, "tmp"),
		},
		CheckpointBytes: 1 << 20, CheckpointInterval: time.Millisecond,
		Policy: source.Policy{Stall: time.Second, Attempts: 3, Progress: 1 << 20, FirstDelay: 10 * time.Millisecond, MaxDelay: 20 * time.Millisecond},
	}
}

// pod is a claim and the runs of a worker on it.
type pod struct {
	t    *testing.T
	root string
	env  map[string]string
	// maxRSS of the last run, with qemu-img, in bytes.
	maxRSS int64
	log    *bytes.Buffer
}

func newPod(t *testing.T, env map[string]string) *pod {
	t.Helper()
	p := &pod{t: t, root: t.TempDir(), env: env}
	for _, dir := range []string{"data", "tmp"} {
		if err := os.Mkdir(filepath.Join(p.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *pod) start(command string) *exec.Cmd {
	p.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envRoot+"="+p.root, envCommand+"="+command, "TMPDIR="+filepath.Join(p.root, "tmp"))
	for k, v := range p.env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	if p.env[envSmall] != "" {
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
	}
	p.log = &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = p.log, p.log
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

// wait ends a run: its exit code and its message.
func (p *pod) wait(cmd *exec.Cmd) (int, names.TerminationMessage) {
	p.t.Helper()
	_ = cmd.Wait()
	if raw, err := os.ReadFile(filepath.Join(p.root, "memory")); err == nil {
		_, _ = fmt.Sscan(string(raw), &p.maxRSS)
	}
	raw, _ := os.ReadFile(filepath.Join(p.root, "termination"))
	return cmd.ProcessState.ExitCode(), names.ParseTermination(string(raw))
}

func (p *pod) run(command string) (int, names.TerminationMessage) {
	p.t.Helper()
	return p.wait(p.start(command))
}

// mustImport runs an import that must succeed.
func (p *pod) mustImport() names.TerminationMessage {
	p.t.Helper()
	code, msg := p.run(names.WorkerImport)
	if code != 0 || msg.Fatal || msg.Text() != names.MessageImportComplete {
		p.t.Fatalf("exit %d, %+v %s\n%s", code, msg, msg.Text(), p.log)
	}
	p.onlyDisk()
	return msg
}

// onlyDisk checks that nothing but the disk is left in the claim.
func (p *pod) onlyDisk() {
	p.t.Helper()
	entries, _ := os.ReadDir(filepath.Join(p.root, "data"))
	for _, e := range entries {
		if e.Name() != names.DiskImage {
			p.t.Errorf("%s was left in the claim", e.Name())
		}
	}
	st, err := os.Stat(p.disk())
	if err != nil || st.Mode().Perm() != 0o660 {
		p.t.Errorf("the disk: %v, %v", st, err)
	}
	if left, _ := os.ReadDir(filepath.Join(p.root, "tmp")); len(left) > 0 {
		p.t.Errorf("%s was left in the temporary folder", left[0].Name())
	}
}

func (p *pod) disk() string { return filepath.Join(p.root, "data", names.DiskImage) }

// sameDisk compares the disk with the raw image want, which zeros may follow.
func (p *pod) sameDisk(want string) {
	p.t.Helper()
	w, err := os.Open(want)
	if err != nil {
		p.t.Fatal(err)
	}
	defer w.Close()
	g, err := os.Open(p.disk())
	if err != nil {
		p.t.Fatal(err)
	}
	defer g.Close()
	a, b := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); ; off += int64(len(a)) {
		n, errW := io.ReadFull(w, a)
		m, _ := io.ReadFull(g, b[:n])
		if m < n || !bytes.Equal(a[:n], b[:n]) {
			p.t.Fatalf("the disk differs within %d bytes after byte %d", n, off)
		}
		if errW != nil {
			break
		}
	}
	if rest, _ := io.ReadAll(g); len(bytes.Trim(rest, "\x00")) > 0 {
		p.t.Fatal("data follows the image")
	}
}

// images is a folder of test images, all of one disk.
type images struct {
	dir, raw string
	size     int64
}

// makeImages makes a disk that is partly random, partly zero, and its other formats.
func makeImages(t *testing.T, mib int, formats ...string) images {
	t.Helper()
	im := images{dir: t.TempDir(), size: int64(mib) << 20}
	im.raw = filepath.Join(im.dir, "disk.raw")
	f, err := os.Create(im.raw)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := sha256.Sum256([]byte("seed"))
	for off := int64(0); off < im.size; off += 2 << 20 {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += len(sum) {
			copy(b[i:], sum[:])
			if i%4096 == 0 {
				sum = sha256.Sum256(sum[:])
			}
			sum[i/32%32] += byte(i)
		}
		if _, err := f.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(im.size); err != nil {
		t.Fatal(err)
	}
	for _, format := range formats {
		args := []string{"convert", "-f", "raw", "-O", format}
		switch format {
		case "qcow2z":
			args = []string{"convert", "-f", "raw", "-c", "-O", "qcow2"}
		case "grown":
			args = []string{"convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=512"}
		}
		if out, err := exec.Command("qemu-img", append(args, im.raw, im.file(format))...).CombinedOutput(); err != nil {
			t.Fatalf("qemu-img %s: %v %s", format, err, out)
		}
	}
	if slices.Contains(formats, "grown") {
		// Its first table has moved to its end: it cannot be decoded in order.
		qemuImg(t, "resize", "-q", "-f", "qcow2", im.file("grown"), "+4M")
	}
	return im
}

func (im images) file(format string) string { return filepath.Join(im.dir, "disk."+format) }

// fileServer serves a folder, counts what it sends, and can stop half-way.
type fileServer struct {
	*httptest.Server
	sent atomic.Int64
	// hold: after so many bytes in all, responses stand still until they are ended. 0 is never. Half-way there, they wait for halfway.
	hold    atomic.Int64
	held    chan struct{}
	halfway func()
	half    sync.Once
	// cut: responses that end after cutAt bytes.
	cut   atomic.Int64
	cutAt int64
	wrap  func(http.ResponseWriter, *http.Request) bool
}

func serveFiles(t *testing.T, dir string) *fileServer {
	t.Helper()
	s := &fileServer{held: make(chan struct{}, 16)}
	files := http.FileServer(http.Dir(dir))
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.wrap != nil && s.wrap(w, r) {
			return
		}
		if st, err := os.Stat(filepath.Join(dir, filepath.Base(r.URL.Path))); err == nil {
			w.Header().Set("ETag", fmt.Sprintf(`"%d-%d"`, st.Size(), st.ModTime().UnixNano()))
		}
		files.ServeHTTP(&countWriter{ResponseWriter: w, s: s, r: r, cut: s.cut.Add(-1) >= 0}, r)
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s
}

type countWriter struct {
	http.ResponseWriter
	s   *fileServer
	r   *http.Request
	cut bool
	n   int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	hold := c.s.hold.Load()
	if hold > 0 && c.s.sent.Load() >= hold/2 && c.s.halfway != nil {
		http.NewResponseController(c.ResponseWriter).Flush()
		c.s.half.Do(c.s.halfway)
	}
	if hold > 0 && c.s.sent.Load() >= hold {
		http.NewResponseController(c.ResponseWriter).Flush()
		c.s.held <- struct{}{}
		<-c.r.Context().Done()
		return 0, c.r.Context().Err()
	}
	if c.cut && c.n >= c.s.cutAt {
		panic(http.ErrAbortHandler)
	}
	n, err := c.ResponseWriter.Write(p)
	c.n += int64(n)
	c.s.sent.Add(int64(n))
	return n, err
}

func httpEnv(url string) map[string]string {
	return map[string]string{names.EnvSource: names.SourceHTTP, names.EnvEndpoint: url, names.EnvFilesystemOverhead: "0.06"}
}

func text(m names.TerminationMessage) string {
	return strings.TrimPrefix(m.Text(), names.MessageErrorPrefix)
}

// journal is how many of the source's bytes are safe.
func (p *pod) journal() int64 {
	p.t.Helper()
	v := volume.Volume{StateDir: filepath.Join(p.root, "data")}
	e := v.Journal().Load()
	if e == nil {
		p.t.Fatal("nothing was kept to go on from")
	}
	return e.Checkpoint.Offset
}

// waitForJournal waits until a checkpoint of at least so many bytes is kept. One is taken when data comes, and not before the last one is
// safe: what came meanwhile is in the next.
func waitForJournal(t *testing.T, p *pod, offset int64) {
	t.Helper()
	w, err := fsnotify.NewWatcher()
	if err != nil {
		t.Error(err)
		return
	}
	defer w.Close()
	if err := w.Add(filepath.Join(p.root, "data")); err != nil {
		t.Error(err)
		return
	}
	v := volume.Volume{StateDir: filepath.Join(p.root, "data")}
	timeout := time.After(20 * time.Second)
	for {
		if e := v.Journal().Load(); e != nil && e.Checkpoint.Offset >= offset {
			return
		}
		select {
		case <-w.Events:
		case <-timeout:
			t.Errorf("no checkpoint at byte %d", offset)
			return
		}
	}
}
