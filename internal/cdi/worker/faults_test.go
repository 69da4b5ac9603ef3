package worker

import (
	"bytes"
	"compress/gzip"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/source"
)

func qemuImg(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img: %v %s", err, out)
	}
}

func with(env map[string]string, pairs ...string) map[string]string {
	for i := 0; i < len(pairs); i += 2 {
		env[pairs[i]] = pairs[i+1]
	}
	return env
}

// Every bad input ends at once, says why, and leaves nothing that looks like a disk.
func TestBadInputIsFatal(t *testing.T) {
	im := makeImages(t, 8, "qcow2", "vmdk", "grown")
	compress(t, im.raw, "gz")
	dir := im.dir
	file := func(name string) string { return filepath.Join(dir, name) }
	qemuImg(t, "create", "-q", "-f", "qcow2", "-F", "raw", "-b", im.raw, file("backing.qcow2"))
	qemuImg(t, "create", "-q", "-f", "qcow2", "-o", "data_file="+file("data.raw"), file("datafile.qcow2"), "8M")
	cut(t, im.file("qcow2"), file("cut.qcow2"), 3)
	cut(t, im.file("vmdk"), file("cut.vmdk"), 2)
	cut(t, im.raw+".gz", file("cut.gz"), 2)
	bomb(t, file("bomb.gz"))
	if err := os.WriteFile(file("empty.raw"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	server := serveFiles(t, dir)
	cases := map[string]struct {
		file string
		env  []string
		text string
	}{
		"backing file":        {"backing.qcow2", nil, "backing file"},
		"data file":           {"datafile.qcow2", nil, "data file"},
		"truncated qcow2":     {"cut.qcow2", nil, "damaged"},
		"truncated vmdk":      {"cut.vmdk", nil, ""},
		"truncated gz":        {"cut.gz", nil, "gz"},
		"bomb":                {"bomb.gz", []string{names.EnvImageSize, "64Mi"}, "larger than the reported available storage 67108864"},
		"raw too large":       {"disk.raw", []string{names.EnvImageSize, "4Mi"}, "virtual image size 8388608 is larger than the reported available storage 4194304. A larger PVC is required"},
		"qcow2 too large":     {"disk.qcow2", []string{names.EnvImageSize, "4Mi"}, "A larger PVC is required"},
		"vmdk too large":      {"disk.vmdk", []string{names.EnvImageSize, "4Mi"}, "A larger PVC is required"},
		"empty":               {"empty.raw", nil, "is empty"},
		"wrong sha256":        {"disk.raw", []string{names.EnvChecksum, "sha256:" + strings.Repeat("0", 64)}, "checksum mismatch"},
		"wrong md5":           {"disk.qcow2", []string{names.EnvChecksum, "md5:" + strings.Repeat("0", 32)}, "checksum mismatch"},
		"wrong, out of order": {"disk.grown", []string{names.EnvChecksum, "sha512:" + strings.Repeat("0", 128)}, "checksum mismatch"},
		"no checksum":         {"disk.raw", []string{names.EnvChecksum, "sha256:xyz"}, "cannot be read"},
		"no such file":        {"none.raw", nil, "404"},
		"no source":           {"disk.raw", []string{names.EnvSource, "floppy"}, "no import source"},
		"imageio":             {"disk.raw", []string{names.EnvSource, names.SourceImageio}, "image-upload"},
		"vddk":                {"disk.raw", []string{names.EnvSource, names.SourceVDDK}, "image-upload"},
		"glance":              {"disk.raw", []string{names.EnvSource, names.SourceGlance}, "http source"},
		"blank archive":       {"", []string{names.EnvSource, names.SourceNone, names.EnvContentType, "archive"}, "content type"},
		"archive of no tar":   {"disk.raw", []string{names.EnvContentType, "archive"}, ""},
		"node pull, no disk":  {"", []string{names.EnvSource, names.SourceRegistry, names.EnvPullMethod, "node"}, "not mounted"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p := newPod(t, with(httpEnv(server.URL+"/"+c.file), c.env...))
			code, msg := p.run(names.WorkerImport)
			if code != 0 || !msg.Fatal || msg.Reason == "" || !strings.Contains(text(msg), c.text) || !strings.HasPrefix(msg.Text(), names.MessageErrorPrefix) {
				t.Fatalf("exit %d, fatal %v, reason %q, %s", code, msg.Fatal, msg.Reason, msg.Text())
			}
			if left, _ := os.ReadDir(filepath.Join(p.root, "data")); len(left) > 0 {
				t.Errorf("%s is left in the claim", left[0].Name())
			}
		})
	}
}

func cut(t *testing.T, from, to string, part int) {
	t.Helper()
	raw, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, raw[:len(raw)-len(raw)/part], 0o600); err != nil {
		t.Fatal(err)
	}
}

// bomb is a small file that unpacks to 1 GiB.
func bomb(t *testing.T, file string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, _ := gzip.NewWriterLevel(f, gzip.BestSpeed)
	zeros := make([]byte, 1<<20)
	for range 1024 {
		_, _ = z.Write(zeros)
	}
	z.Close()
}

// A server that fails may work again: the kubelet starts the container anew, which goes on.
func TestServersFaults(t *testing.T) {
	im := makeImages(t, 4)
	server := serveFiles(t, im.dir)
	tls := httptest.NewTLSServer(http.FileServer(http.Dir(im.dir)))
	tls.Config.ErrorLog = nil
	t.Cleanup(tls.Close)
	cases := map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request) bool
		url    string
		fatal  bool
		text   string
	}{
		"401": {answer: code(401), fatal: true, text: "401"},
		"403": {answer: code(403), fatal: true, text: "403"},
		"500": {answer: code(500), text: "given up after 3 attempts at byte 0"},
		"file redirect": {answer: func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(302)
			return true
		}, fatal: true, text: "not followed"},
		"half": {answer: func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Length", "4194304")
			_, _ = w.Write(make([]byte, 100_000))
			return true
		}, text: "ended after 100000 of 4194304 bytes"},
		"nobody there": {url: "http://127.0.0.1:1/disk.raw", text: "given up after 3 attempts"},
		"wrong CA":     {url: tls.URL + "/disk.raw", fatal: true, text: "certConfigMap"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			server.wrap = c.answer
			if c.url == "" {
				c.url = server.URL + "/disk.raw"
			}
			p := newPod(t, httpEnv(c.url))
			exit, msg := p.run(names.WorkerImport)
			if (exit == 0) != c.fatal || msg.Fatal != c.fatal || !strings.Contains(msg.Text(), c.text) || !strings.HasPrefix(msg.Text(), names.MessageErrorPrefix) {
				t.Fatalf("exit %d, fatal %v, %s", exit, msg.Fatal, msg.Text())
			}
		})
	}
}

func code(n int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(n); return true }
}

// What a full claim got is kept, and no endless restart is begun over.
func TestFullClaim(t *testing.T) {
	im := makeImages(t, 32, "grown")
	server := serveFiles(t, im.dir)
	for _, name := range []string{"disk.raw", "disk.grown"} {
		p := newPod(t, with(httpEnv(server.URL+"/"+name), envSmall, "9m"))
		exit, msg := p.run(names.WorkerImport)
		if exit == 0 && !msg.Fatal || !strings.Contains(msg.Text(), "space") && !strings.Contains(msg.Text(), "larger") {
			t.Errorf("%s: exit %d, %s", name, exit, msg.Text())
		}
	}
}

func TestSourceThatChanges(t *testing.T) {
	im := makeImages(t, 8)
	server := serveFiles(t, im.dir)
	server.cutAt = 4 << 20
	server.cut.Store(1)
	requests := 0
	server.wrap = func(http.ResponseWriter, *http.Request) bool {
		if requests++; requests == 2 {
			// The same size and another content, as a nightly build has.
			raw, _ := os.ReadFile(im.raw)
			copy(raw, bytes.Repeat([]byte("new"), 1000))
			_ = os.WriteFile(im.raw, raw, 0o600)
		}
		return false
	}
	p := newPod(t, httpEnv(server.URL+"/disk.raw"))
	p.mustImport()
	p.sameDisk(im.raw)
	if !strings.Contains(p.log.String(), "beginning again") {
		t.Errorf("%s", p.log)
	}
}

func TestChecksums(t *testing.T) {
	im := makeImages(t, 8, "grown", "qcow2")
	server := serveFiles(t, im.dir)
	for _, format := range []string{"raw", "qcow2", "grown"} {
		p := newPod(t, with(httpEnv(server.URL+"/disk."+format), names.EnvChecksum, "sha256:"+fileSum(t, im.file(format))))
		if msg := p.mustImport(); !strings.HasSuffix(msg.Digest, fileSum(t, im.file(format))) {
			t.Errorf("%+v", msg)
		}
		p.sameDisk(im.raw)
	}
}

func TestScratchIsAskedForAndUsed(t *testing.T) {
	im := makeImages(t, 16, "grown")
	dense(t, im)
	server := serveFiles(t, im.dir)
	// The whole file is read, for its checksum, and there is no room for it beside the disk.
	env := with(httpEnv(server.URL+"/disk.grown"), envSmall, "22m", names.EnvFilesystemOverhead, "0", names.EnvChecksum, "sha256:"+fileSum(t, im.file("grown")))
	p := newPod(t, env)
	exit, msg := p.run(names.WorkerImport)
	if exit != 0 || msg.Fatal || msg.ScratchSpaceRequired == nil || !*msg.ScratchSpaceRequired || msg.ScratchBytes <= 0 {
		t.Fatalf("exit %d, %+v %s", exit, msg, msg.Text())
	}
	if err := os.Mkdir(filepath.Join(p.root, "scratch"), 0o755); err != nil {
		t.Fatal(err)
	}
	delete(p.env, envSmall)
	p.mustImport()
	p.sameDisk(im.raw)
	if left, _ := os.ReadDir(filepath.Join(p.root, "scratch")); len(left) > 0 {
		t.Errorf("%s is left on the scratch claim", left[0].Name())
	}
}

// dense makes the images again, of a disk without zeros.
func dense(t *testing.T, im images) {
	t.Helper()
	raw := make([]byte, im.size)
	_, _ = rand.NewChaCha8([32]byte{}).Read(raw)
	if err := os.WriteFile(im.raw, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	qemuImg(t, "convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=512", im.raw, im.file("grown"))
	qemuImg(t, "resize", "-q", "-f", "qcow2", im.file("grown"), "+4M")
}

func TestBlankAndSizes(t *testing.T) {
	p := newPod(t, map[string]string{names.EnvSource: names.SourceNone, names.EnvImageSize: "32Mi", names.EnvFilesystemOverhead: "0.06"})
	p.mustImport()
	st, err := os.Stat(p.disk())
	if err != nil || st.Size() != 32<<20 || st.Sys().(*syscall.Stat_t).Blocks > 64 {
		t.Fatalf("%+v, %v", st, err)
	}
	p.env[names.EnvPreallocation] = "true"
	msg := p.mustImport()
	st, _ = os.Stat(p.disk())
	if st.Sys().(*syscall.Stat_t).Blocks*512 < 32<<20 || !*msg.PreallocationApplied {
		t.Fatalf("not preallocated: %+v", st)
	}
	im := makeImages(t, 8, "grown")
	server := serveFiles(t, im.dir)
	for _, format := range []string{"raw", "grown"} {
		grown := newPod(t, with(httpEnv(server.URL+"/disk."+format), names.EnvImageSize, "20Mi", names.EnvPreallocation, "true"))
		grown.mustImport()
		grown.sameDisk(im.raw)
		st, _ := os.Stat(grown.disk())
		if st.Size() != 20<<20 || st.Sys().(*syscall.Stat_t).Blocks*512 < 20<<20 {
			t.Errorf("%s: %d bytes, %d blocks", format, st.Size(), st.Sys().(*syscall.Stat_t).Blocks)
		}
	}
}

func TestNodePull(t *testing.T) {
	im := makeImages(t, 8, "qcow2", "grown")
	for _, format := range []string{"qcow2", "grown"} {
		p := newPod(t, map[string]string{names.EnvSource: names.SourceRegistry, names.EnvPullMethod: "node", names.EnvEndpoint: "docker://x/y:z"})
		if err := os.MkdirAll(filepath.Join(p.root, "shared", "disk"), 0o755); err != nil {
			t.Fatal(err)
		}
		raw, _ := os.ReadFile(im.file(format))
		if err := os.WriteFile(filepath.Join(p.root, "shared", "disk", "vm.img"), raw, 0o400); err != nil {
			t.Fatal(err)
		}
		p.mustImport()
		p.sameDisk(im.raw)
	}
}

func TestHeadersAndPassword(t *testing.T) {
	im := makeImages(t, 4)
	server := serveFiles(t, im.dir)
	server.wrap = func(w http.ResponseWriter, r *http.Request) bool {
		user, password, _ := r.BasicAuth()
		if user != "me" || password != "secret" || r.Header.Get("X-One") != "1" || r.Header.Get("X-Two") != "2" {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, "no")
			return true
		}
		return false
	}
	env := with(httpEnv(server.URL+"/disk.raw"), names.EnvAccessKeyID, "me", names.EnvSecretKey, "secret", names.EnvExtraHeader+"0", "X-One: 1")
	p := newPod(t, env)
	headers := filepath.Join(p.root, "extraheaders", "0")
	if err := os.MkdirAll(headers, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(headers, names.SecretKeyHeader), []byte("X-Two: 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.mustImport()
	p.env[names.EnvSecretKey] = "wrong"
	if _, msg := p.run(names.WorkerImport); msg.Reason != source.ReasonDenied || strings.Contains(msg.Text(), "wrong") {
		t.Errorf("%+v %s", msg, msg.Text())
	}
}
