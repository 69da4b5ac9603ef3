//go:build bench

package bench

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	// hostAddress is this machine as the pods of the cluster see it.
	hostAddress = "10.221.0.1"

	imageSize = 1 << 30
	run       = 1 << 20
	// speed is the share of the floor's speed that is promised, workerStart the time in which a worker's pod is promised to be ready.
	speed       = 0.8
	workerStart = 2.5
)

// disks measures how fast images become disks. The floor is what a person would type: curl, then qemu-img convert.
func (b *bench) disks() {
	namespace := b.namespace("bench-disks")
	dir := b.TempDir()
	images := map[string]string{"half-sparse raw": b.halfSparse(dir)}
	images["zlib qcow2"] = b.compressed(dir, images["half-sparse raw"])
	listener, err := net.Listen("tcp", hostAddress+":0")
	b.check(err)
	server := &http.Server{Handler: http.FileServer(http.Dir(dir))}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()

	for i, kind := range []string{"half-sparse raw", "zlib qcow2"} {
		file := images[kind]
		url := "http://" + listener.Addr().String() + "/" + filepath.Base(file)
		floor := b.curlThenConvert(url, dir)
		name := fmt.Sprintf("import-%d", i)
		start := time.Now()
		b.program("kubectl", dataVolume(name, fmt.Sprintf("http: {url: %q}", url)), "-n", namespace, "apply", "-f", "-")
		b.program("kubectl", "", "-n", namespace, "wait", "dv/"+name, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=300s")
		b.table.add(figure{name: "http import, 1 GiB " + kind + ", DataVolume → Succeeded", promise: floor/speed + workerStart, unit: seconds,
			values: since(start), floor: []float64{floor}, floorName: "curl, convert"})

		name = fmt.Sprintf("upload-%d", i)
		start = time.Now()
		b.program("kubectl", dataVolume(name, "upload: {}"), "-n", namespace, "apply", "-f", "-")
		b.program("kubectl", "", "-n", namespace, "wait", "dv/"+name, "--for=jsonpath={.status.phase}=UploadReady", "--timeout=300s")
		b.table.add(figure{name: "upload pod ready", promise: workerStart, unit: seconds, values: since(start)})
		start = time.Now()
		b.virtctl("-n", namespace, "image-upload", "dv", name, "--no-create", "--image-path", file)
		b.table.add(figure{name: "upload, 1 GiB " + kind, promise: floor / speed, unit: seconds,
			values: since(start), floor: []float64{floor}, floorName: "curl, convert"})
	}
	b.program("kubectl", "", "delete", "namespace", namespace, "--wait=false")
}

// halfSparse makes a raw image of which every other MiB is data that does not compress.
func (b *bench) halfSparse(dir string) string {
	b.Helper()
	path := filepath.Join(dir, "half.raw")
	file, err := os.Create(path)
	b.check(err)
	defer file.Close()
	b.check(file.Truncate(imageSize))
	data := make([]byte, run)
	for offset := int64(0); offset < imageSize; offset += 2 * run {
		_, _ = rand.Read(data)
		_, err := file.WriteAt(data, offset)
		b.check(err)
	}
	return path
}

// compressed makes a qcow2 image with zlib clusters, half of whose data compresses.
func (b *bench) compressed(dir, raw string) string {
	b.Helper()
	text := filepath.Join(dir, "text.raw")
	b.tool("cp", "--sparse=always", raw, text)
	file, err := os.OpenFile(text, os.O_WRONLY, 0)
	b.check(err)
	defer file.Close()
	line := make([]byte, 0, run)
	for offset := int64(0); offset < imageSize; offset += 4 * run {
		line = line[:0]
		for n := 0; len(line) < run-64; n++ {
			line = fmt.Appendf(line, "%d: a line of some log file at %d\n", n, offset)
		}
		_, err := file.WriteAt(line, offset)
		b.check(err)
	}
	path := filepath.Join(dir, "zlib.qcow2")
	b.tool("qemu-img", "convert", "-c", "-O", "qcow2", text, path)
	b.check(os.Remove(text))
	return path
}

// curlThenConvert is the floor: the same bytes by hand, to a disk that is really there at the end.
func (b *bench) curlThenConvert(url, dir string) float64 {
	b.Helper()
	downloaded, disk := filepath.Join(dir, "floor.download"), filepath.Join(dir, "floor.raw")
	start := time.Now()
	b.tool("curl", "-sf", "-o", downloaded, url)
	b.tool("qemu-img", "convert", "-W", "-O", "raw", downloaded, disk)
	b.tool("sync", disk)
	took := time.Since(start).Seconds()
	b.check(os.Remove(downloaded))
	b.check(os.Remove(disk))
	return took
}

func (b *bench) tool(program string, args ...string) {
	b.Helper()
	if out, err := exec.CommandContext(b.ctx, program, args...).CombinedOutput(); err != nil {
		b.Fatalf("%s %v: %v\n%s", program, args, err, out)
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
        storage: 1Gi
`, name, source)
}
