//go:build bench

package bench

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// hostAddress is this machine as the pods of the cluster see it.
	hostAddress = "10.221.0.1"

	imageSize = 1 << 30
	// disked is how often each image becomes a disk.
	disked = 3
	run    = 1 << 20
	// speed is the share of the floor's speed that is promised, workerStart the time in which a worker's pod is promised to be ready.
	speed       = 0.8
	workerStart = 2.5
)

// data is what is not zero in the images.
const data = imageSize / 2

// disks measures how fast images become disks, and at what cost. The floor is what a person would type: curl, then qemu-img convert onto a
// file system of the kind that the cluster's claims have.
func (b *bench) disks() {
	namespace := b.namespace("bench-disks")
	dir := b.TempDir()
	raw := b.halfSparse(dir)
	images := []struct{ kind, file string }{{"half-sparse raw", raw}, {"zlib qcow2", b.compressed(dir, raw)}}
	server, claim := b.serve(dir), b.likeAClaim(dir)
	peaks := b.watchPeaks(namespace)
	var pods []float64
	for i, image := range images {
		url := server + filepath.Base(image.file)
		var floors, imports, uploads []float64
		for n := range disked {
			floors = append(floors, b.curlThenConvert(url, dir, claim))
			imports = append(imports, b.importImage(namespace, fmt.Sprintf("import-%d-%d", i, n), url))
			ready, done := b.uploadImage(namespace, fmt.Sprintf("upload-%d-%d", i, n), image.file)
			pods, uploads = append(pods, ready), append(uploads, done)
		}
		share := median(floors) / speed
		b.table.add(figure{
			name: "http import, 1 GiB " + image.kind + ", DataVolume → Succeeded", promise: share + workerStart, unit: seconds,
			values: imports, floor: floors, floorName: "curl, convert",
		})
		b.table.add(figure{
			name: "upload, 1 GiB " + image.kind + ", pod ready → Succeeded", promise: share, unit: seconds,
			values: uploads, floor: floors, floorName: "curl, convert",
		})
	}
	b.table.add(figure{name: "image-upload: command → upload pod ready", promise: workerStart, unit: seconds, values: pods})
	b.cutUpload(namespace, raw)
	b.weighWorkers(peaks.stop())
	// What is left would be in the way of the uninstallation.
	b.program("kubectl", "", "delete", "namespace", namespace)
}

// serve offers a directory to the pods.
func (b *bench) serve(dir string) string {
	b.Helper()
	listener, err := net.Listen("tcp", hostAddress+":0")
	b.check(err)
	server := &http.Server{Handler: http.FileServer(http.Dir(dir))}
	go func() { _ = server.Serve(listener) }()
	b.Cleanup(func() { _ = server.Close() })
	return "http://" + listener.Addr().String() + "/"
}

// importImage has the cluster fetch an image. What was written before is on the disk by then, as in the other measurements.
func (b *bench) importImage(namespace, name, url string) float64 {
	b.Helper()
	b.tool("sync")
	start := time.Now()
	b.program("kubectl", dataVolume(name, fmt.Sprintf("http: {url: %q}", url)), "-n", namespace, "apply", "-f", "-")
	b.program("kubectl", "", "-n", namespace, "wait", "dv/"+name, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=300s")
	return time.Since(start).Seconds()
}

// uploadImage uploads as a person does: the command makes the volume. What it prints tells when the pod was ready; the rest of the time
// is the upload's.
func (b *bench) uploadImage(namespace, name, file string) (podReady, upload float64) {
	b.Helper()
	b.tool("sync")
	cmd := b.cluster.Program(b.ctx, "virtctl", "-n", namespace, "image-upload", "dv", name, "--image-path", file)
	out, err := cmd.StdoutPipe()
	b.check(err)
	var talk strings.Builder
	cmd.Stderr = &talk
	start := time.Now()
	b.check(cmd.Start())
	var ready time.Time
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if ready.IsZero() && strings.HasPrefix(lines.Text(), "Uploading data to") {
			ready = time.Now()
		}
	}
	if err := cmd.Wait(); err != nil {
		b.Fatalf("image-upload: %v\n%s", err, talk.String())
	}
	return ready.Sub(start).Seconds(), time.Since(ready).Seconds()
}

// cutUpload cuts an upload in its middle and counts what crosses the wire in all. The image's zeros are not sent: its data is the middle's
// measure, and what the command says it had to send is the whole's.
func (b *bench) cutUpload(namespace, file string) {
	b.Helper()
	w, err := b.cluster.Wire(b.ctx, data/2)
	b.check(err)
	defer w.Close()
	go func() {
		select {
		case <-w.Reached:
			w.Cut()
		case <-b.ctx.Done():
		}
	}()
	var uploaded struct{ Length int64 }
	b.check(json.Unmarshal([]byte(b.virtctl("-n", namespace, "image-upload", "dv", "cut", "--image-path", file, "--direct=false", "--server", w.Server, "-o", "json")), &uploaded))
	if uploaded.Length < data || uploaded.Length > imageSize {
		b.Fatalf("%d bytes had to be sent of an image with %d bytes of data", uploaded.Length, data)
	}
	again := float64(w.Sent.Load()-uploaded.Length) / float64(uploaded.Length) * 100
	b.table.add(figure{name: "sent again after a cut at 50 %, 1 GiB half-sparse raw", promise: 5, unit: percent, values: []float64{again}, upstream: "100 %"})
}

// halfSparse makes a raw image of which every other MiB is data that does not compress.
func (b *bench) halfSparse(dir string) string {
	b.Helper()
	path := filepath.Join(dir, "half.raw")
	file, err := os.Create(path)
	b.check(err)
	defer file.Close()
	b.check(file.Truncate(imageSize))
	noise := make([]byte, run)
	for offset := int64(0); offset < imageSize; offset += 2 * run {
		_, _ = rand.Read(noise)
		_, err := file.WriteAt(noise, offset)
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

// likeAClaim mounts a file system as the cluster's default class makes them for claims: ext4 on a loop device above a file.
func (b *bench) likeAClaim(dir string) string {
	b.Helper()
	file, mounted := filepath.Join(dir, "claim.img"), filepath.Join(dir, "claim")
	b.tool("truncate", "-s", strconv.Itoa(2*imageSize), file)
	b.tool("mkfs.ext4", "-q", "-F", "-m0", file)
	b.check(os.Mkdir(mounted, 0o755))
	b.tool("mount", "-o", "loop", file, mounted)
	b.Cleanup(func() {
		if out, err := exec.Command("umount", mounted).CombinedOutput(); err != nil {
			b.Errorf("umount %s: %v\n%s", mounted, err, out)
		}
	})
	return mounted
}

// curlThenConvert is the floor: the same bytes by hand, to a disk that is really there at the end.
func (b *bench) curlThenConvert(url, dir, claim string) float64 {
	b.Helper()
	downloaded, disk := filepath.Join(dir, "floor.download"), filepath.Join(claim, "floor.raw")
	b.tool("sync")
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
