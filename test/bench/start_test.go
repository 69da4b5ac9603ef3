//go:build bench

package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/images"
)

const (
	samples = 5
	many    = 10
)

// starts measures a VMI's way to Running, to its guest's first line, and away again, beside a bare pod and a bare QEMU. They take
// turns, so that whatever else the machine does meets all of them.
func (b *bench) starts() {
	namespace := b.namespace("bench-start")
	kernel, initrd, root := b.kernel()
	var running, line, gone, podRunning, podGone, bootLine []float64
	for i := range samples {
		created, removed := b.pods(namespace, 1)
		podRunning, podGone = append(podRunning, created), append(podGone, removed)
		bootLine = append(bootLine, b.bareQEMU(root, kernel, initrd))
		toRunning, toLine, toGone := b.life(namespace, fmt.Sprintf("vmi%d", i), i == 0)
		running, line, gone = append(running, toRunning), append(line, toLine), append(gone, toGone)
	}
	b.table.add(figure{name: "VMI create → Running", promise: 2.5, unit: seconds, values: running, floor: podRunning, floorName: "bare pod", upstream: "7.1 s"})
	b.table.add(figure{name: "VMI create → guest's first line", promise: 2.5, aboveFloor: true, unit: seconds, values: line, floor: bootLine, floorName: "bare QEMU", upstream: "13.5 s, 3.6 s bare"})
	b.table.add(figure{name: "VMI delete → pod gone", promise: 1.5, unit: seconds, values: gone, floor: podGone, floorName: "bare pod", upstream: "3.7 s"})
}

// life creates a VMI and deletes it when its guest is up. The first one's pod, alone on the node, is weighed.
func (b *bench) life(namespace, name string, weigh bool) (running, line, gone float64) {
	b.Helper()
	vmi := b.vmi(namespace, name)
	start := time.Now()
	_, err := b.client.VMIs(namespace).Create(b.ctx, vmi, false)
	b.check(err)
	b.awaitRunning(namespace, client.Named(name), 1)
	running = time.Since(start).Seconds()
	b.awaitConsole(namespace, name, firstLine)
	line = time.Since(start).Seconds()
	// A guest that is not up yet does not hear the power button.
	b.awaitConsole(namespace, name, loginPrompt)
	if weigh {
		b.weighLauncher(namespace)
	}
	start = time.Now()
	b.check(b.client.VMIs(namespace).Delete(b.ctx, name, metav1.DeleteOptions{}))
	b.awaitNoPods(namespace)
	return running, line, time.Since(start).Seconds()
}

// kernel takes the demo guest's kernel and initrd out of their image, into the root directory of the launcher's image: the floor is
// the same QEMU, for one release emulates faster than another.
func (b *bench) kernel() (kernel, initrd, root string) {
	b.Helper()
	root = b.rootOf("virt-launcher")
	archive, err := images.Read(filepath.Join(b.cluster.Root, "out/images/demo-kernel.tar"))
	b.check(err)
	defer archive.Close()
	extract := func(name string) string {
		inside := "/" + filepath.Base(name)
		file, err := os.Create(filepath.Join(root, inside))
		b.check(err)
		defer file.Close()
		_, err = archive.Images[0].ExtractFile(file, name, 1<<30)
		b.check(err)
		return inside
	}
	return extract("/boot/vmlinuz"), extract("/boot/initrd.img"), root
}

// rootOf is a directory with an image's files.
func (b *bench) rootOf(name string) string {
	b.Helper()
	image, err := tarball.ImageFromPath(filepath.Join(b.cluster.Root, "out/images", name+".tar"), nil)
	b.check(err)
	files := mutate.Extract(image)
	defer files.Close()
	root := b.TempDir()
	unpack := exec.CommandContext(b.ctx, "tar", "-x", "-C", root)
	unpack.Stdin = files
	if said, err := unpack.CombinedOutput(); err != nil {
		b.Fatalf("unpack %s: %v\n%s", name, err, said)
	}
	return root
}

// bareQEMU says how long the same kernel takes from QEMU's start to the same line, emulated and without anything around it.
func (b *bench) bareQEMU(root, kernel, initrd string) float64 {
	b.Helper()
	cmd := exec.CommandContext(b.ctx, "chroot", root, "/usr/bin/qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "max,la57=off", "-m", "128",
		"-smp", "1", "-nodefaults", "-display", "none", "-serial", "stdio", "-device", "virtio-rng-pci", "-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0,115200n8 quiet")
	out, err := cmd.StdoutPipe()
	b.check(err)
	start := time.Now()
	b.check(cmd.Start())
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	var seen bytes.Buffer
	buffer := make([]byte, 4096)
	for !bytes.Contains(seen.Bytes(), []byte(firstLine)) {
		n, err := out.Read(buffer)
		seen.Write(buffer[:n])
		if err != nil {
			b.Fatalf("bare QEMU ended before its guest said %q: %v\n%s", firstLine, err, seen.String())
		}
	}
	return time.Since(start).Seconds()
}

// power measures the command that starts a machine, from the moment the program is started itself.
func (b *bench) power() {
	namespace := b.namespace("bench-power")
	_, err := b.client.VMs(namespace).Create(b.ctx, b.halted(namespace, "web"), false)
	b.check(err)
	var running []float64
	for range samples {
		start := time.Now()
		b.virtctl("-n", namespace, "start", "web")
		b.awaitRunning(namespace, client.Named("web"), 1)
		running = append(running, time.Since(start).Seconds())
		b.virtctl("-n", namespace, "stop", "web", "--force", "--grace-period", "0", "--wait", "--timeout", "1m")
		b.awaitNoPods(namespace)
	}
	b.check(b.client.VMs(namespace).Delete(b.ctx, "web", metav1.DeleteOptions{}))
	b.table.add(figure{name: "virtctl start → Running", promise: 2.5, unit: seconds, values: running, upstream: "6.5 s"})
}

// many measures ten machines at once.
func (b *bench) many() {
	bare, bareGone := b.pods(b.namespace("bench-pods"), many)
	namespace := b.namespace("bench-many")
	machines := make([]*kubevirtv1.VirtualMachineInstance, many)
	for i := range machines {
		machines[i] = b.vmi(namespace, nth(i))
	}
	start := time.Now()
	for _, vmi := range machines {
		_, err := b.client.VMIs(namespace).Create(b.ctx, vmi, false)
		b.check(err)
	}
	b.awaitRunning(namespace, client.ListOptions{}, many)
	b.table.add(figure{name: "10 VMIs at once → all Running", promise: 25, unit: seconds, values: since(start), floor: []float64{bare}, floorName: "bare pods", upstream: "54 to 56 s"})
	for i := range many {
		b.awaitConsole(namespace, nth(i), loginPrompt)
	}
	start = time.Now()
	for i := range many {
		b.check(b.client.VMIs(namespace).Delete(b.ctx, nth(i), metav1.DeleteOptions{}))
	}
	b.awaitNoPods(namespace)
	b.table.add(figure{name: "10 VMIs deleted → all pods gone", promise: 5, unit: seconds, values: since(start), floor: []float64{bareGone}, floorName: "bare pods", upstream: "6 to 8 s"})
}
