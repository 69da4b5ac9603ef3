//go:build e2e

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"virtctl/internal/images"
)

// guestDisk writes the demo guest's disk, a qcow2 image, to a file.
func (j *journey) guestDisk() string {
	j.Helper()
	archive, err := images.Read(filepath.Join(shared.Root, "out/images/demo.tar"))
	if err != nil {
		j.Fatal(err)
	}
	defer archive.Close()
	path := filepath.Join(j.TempDir(), "demo.qcow2")
	file, err := os.Create(path)
	if err != nil {
		j.Fatal(err)
	}
	defer file.Close()
	if _, err := archive.Images[0].ExtractFile(file, "disk/demo.qcow2", 1<<30); err != nil {
		j.Fatal(err)
	}
	return path
}

// serve offers a handler to the pods of the cluster and returns its URL.
func (j *journey) serve(handler http.Handler) string {
	j.Helper()
	listener, err := net.Listen("tcp", hostAddress()+":0")
	if err != nil {
		j.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(listener) }()
	j.Cleanup(func() { _ = server.Close() })
	return "http://" + listener.Addr().String()
}

// bootFrom makes a machine whose only disk is a claim and waits for the guest on it.
func (j *journey) bootFrom(name, claim string) {
	j.Helper()
	j.kubectlIn(j.virtctl("create", "vm", "--name", name, "--memory", "128Mi", "--volume-pvc", "src:"+claim,
		"--termination-grace-period", "20"), "apply", "-f", "-")
	j.virtctl("wait", name, "--for", "running", "--timeout", "90s")
	j.awaitConsole(name, "Welcome to the demo guest")
}

// noWorkers fails when a worker, its service or its secret outlived its work.
func (j *journey) noWorkers() {
	j.Helper()
	if r := j.kubectlTry("", "wait", "pods,services,secrets", "-l", "app=containerized-data-importer", "--for=delete", "--timeout=30s"); r.Code != 0 {
		j.Errorf("left behind: %s%s", r.Stdout, r.Stderr)
	}
}

// TestUploadThenBoot: a file becomes a disk, and the disk a machine. The same file again costs nothing.
func TestUploadThenBoot(t *testing.T) {
	j := start(t)
	disk := j.guestDisk()
	j.virtctl("image-upload", "dv", "up", "--image-path", disk, "--wait-secs", "120", "--insecure")
	j.want("phase of the DataVolume", j.kubectl("get", "dv", "up", "-o", "jsonpath={.status.phase}"), "Succeeded")
	j.noWorkers()
	if again := j.virtctl("image-upload", "dv", "up", "--image-path", disk); !strings.Contains(again, "already") {
		t.Errorf("the same file again says\n%s", again)
	}
	j.bootFrom("uploaded", "up")
}

// TestImportThenBoot: a DataVolume as written for CDI brings a disk from a web server, with its checksum.
func TestImportThenBoot(t *testing.T) {
	j := start(t)
	disk := j.guestDisk()
	data, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	url := j.serve(http.FileServer(http.Dir(filepath.Dir(disk)))) + "/" + filepath.Base(disk)
	j.kubectlIn(dataVolume("web", fmt.Sprintf(`http: {url: %q, checksum: "sha256:%s"}`, url, hex.EncodeToString(sum[:]))), "apply", "-f", "-")
	j.kubectl("wait", "dv/web", "--for=condition=Ready", "--timeout=120s")
	j.want("phase", j.kubectl("get", "dv", "web", "-o", "jsonpath={.status.phase}"), "Succeeded")
	j.noWorkers()
	j.bootFrom("imported", "web")
}

// TestCloneThenBoot: a claim becomes another one with the same disk.
func TestCloneThenBoot(t *testing.T) {
	j := start(t)
	j.virtctl("image-upload", "dv", "source", "--image-path", j.guestDisk(), "--insecure")
	j.kubectlIn(dataVolume("copy", fmt.Sprintf("pvc: {namespace: %s, name: source}", j.namespace)), "apply", "-f", "-")
	j.kubectl("wait", "dv/copy", "--for=condition=Ready", "--timeout=120s")
	j.noWorkers()
	j.bootFrom("cloned", "copy")
}

// TestImportsThatCannotWork: what a user or a server did wrong ends in a condition that says so, and leaves no worker behind.
func TestImportsThatCannotWork(t *testing.T) {
	j := start(t)
	dir := t.TempDir()
	backed := filepath.Join(dir, "backed.qcow2")
	if out, err := exec.Command("qemu-img", "create", "-f", "qcow2", "-u", "-b", "/etc/passwd", "-F", "raw", backed, "64M").CombinedOutput(); err != nil {
		t.Fatalf("qemu-img: %v\n%s", err, out)
	}
	mux := http.NewServeMux()
	mux.Handle("/backed.qcow2", http.FileServer(http.Dir(dir)))
	mux.HandleFunc("/denied", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) })
	url := j.serve(mux)
	for name, wrong := range map[string]struct{ source, message string }{
		"absent":  {fmt.Sprintf("http: {url: %q}", url+"/nothing"), "404"},
		"denied":  {fmt.Sprintf("http: {url: %q}", url+"/denied"), "403"},
		"backed":  {fmt.Sprintf("http: {url: %q}", url+"/backed.qcow2"), "backing"},
		"sumless": {fmt.Sprintf("http: {url: %q, checksum: %q}", url+"/backed.qcow2", "sha256:"+strings.Repeat("0", 64)), ""},
	} {
		j.kubectlIn(dataVolume(name, wrong.source), "apply", "-f", "-")
		r := j.kubectlTry("", "wait", "dv/"+name, "--for=jsonpath={.status.phase}=Failed", "--timeout=60s")
		conditions := j.kubectl("get", "dv", name, "-o", "jsonpath={.status.conditions}")
		if r.Code != 0 || !strings.Contains(conditions, wrong.message) {
			t.Errorf("%s: no condition says %q:\n%s", name, wrong.message, conditions)
		}
	}
}

// TestARefusalIsHeard: a cluster that refuses an image in the middle of it says why, and the client does not send it again.
func TestARefusalIsHeard(t *testing.T) {
	j := start(t)
	disk := filepath.Join(t.TempDir(), "damaged.qcow2")
	raw, _ := j.randomFile(64 << 20)
	if out, err := exec.Command("qemu-img", "convert", "-O", "qcow2", raw, disk).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img: %v\n%s", err, out)
	}
	file, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	header := make([]byte, 48)
	if _, err := file.ReadAt(header, 0); err != nil {
		t.Fatal(err)
	}
	// The table of tables, which lies at the image's beginning, points to where nothing can be.
	if _, err := file.WriteAt(bytes.Repeat([]byte{0x7f}, 8), int64(binary.BigEndian.Uint64(header[40:]))); err != nil {
		t.Fatal(err)
	}
	r := j.try("", "image-upload", "dv", "refused", "--image-path", disk, "--retry", "3")
	if r.Code == 0 || !strings.Contains(r.Stderr, "the image was refused") || strings.Contains(r.Stderr, "trying again") {
		t.Errorf("exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
}

func dataVolume(name, source string) string {
	return fmt.Sprintf(`apiVersion: cdi.kubevirt.io/v1beta1
kind: DataVolume
metadata:
  name: %s
spec:
  source:
    %s
  storage:
    resources:
      requests:
        storage: 256Mi
`, name, source)
}
