//go:build bench

package bench

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"virtctl/internal/images"
)

// runs is how often a command is run: it is short, and its times scatter.
const runs = 20

// cost is what runs of a command took.
type cost struct{ cpu, wall, rss []float64 }

// cli measures what a user's shell pays for short commands, beside kubectl.
func (b *bench) cli() {
	namespace := b.namespace("bench-cli")
	vm := b.halted(namespace, "web")
	_, err := b.client.VMs(namespace).Create(b.ctx, vm, false)
	b.check(err)
	meter := filepath.Join(b.TempDir(), "rusage")
	if out, err := exec.CommandContext(b.ctx, "go", "build", "-o", meter, "./rusage").CombinedOutput(); err != nil {
		b.Fatalf("go build ./rusage: %v\n%s", err, out)
	}
	floor := b.cost(meter, "kubectl", "version", "--client")
	for _, c := range []struct {
		name string
		args []string
	}{
		{"virtctl version --client", []string{"version", "--client"}},
		{"virtctl --help", []string{"--help"}},
		{`virtctl __complete start ""`, []string{"-n", namespace, "__complete", "start", ""}},
	} {
		used := b.cost(meter, "virtctl", c.args...)
		b.table.add(figure{name: c.name + ", CPU", promise: 20, unit: millis, values: used.cpu, floor: floor.cpu, floorName: "kubectl", upstream: "30 ms"})
		b.table.add(figure{name: c.name + ", peak memory", promise: 26, unit: mib, values: used.rss, floor: floor.rss, floorName: "kubectl", upstream: "36 MiB"})
	}
	used := b.cost(meter, "virtctl", "create", "vm", "--name", "web", "--memory", "128Mi", "--volume-containerdisk", "src:demo")
	b.table.add(figure{name: "virtctl create vm, wall", promise: 30, unit: millis, values: used.wall, floor: floor.wall, floorName: "kubectl", upstream: "48 ms"})
	b.check(b.client.VMs(namespace).Delete(b.ctx, "web", metav1.DeleteOptions{}))
}

// cost runs a command under the meter.
func (b *bench) cost(meter, program string, args ...string) cost {
	b.Helper()
	cmd := b.cluster.Program(b.ctx, program, args...)
	cmd.Args = append([]string{meter, strconv.Itoa(runs), cmd.Path}, args...)
	cmd.Path = meter
	out, err := cmd.Output()
	b.check(err)
	var c cost
	lines := json.NewDecoder(strings.NewReader(string(out)))
	for range runs {
		var used struct {
			CPU, Wall time.Duration
			RSS       int64
			Status    int
		}
		b.check(lines.Decode(&used))
		if used.Status != 0 {
			b.Fatalf("%s %v: exit code %d", program, args, used.Status)
		}
		c.cpu = append(c.cpu, used.CPU.Seconds()*1000)
		c.wall = append(c.wall, used.Wall.Seconds()*1000)
		c.rss = append(c.rss, float64(used.RSS)/(1<<20))
	}
	return c
}

// sizes measures what is on disk.
func (b *bench) sizes() {
	info, err := os.Stat(filepath.Join(b.cluster.Root, "bin/virtctl"))
	b.check(err)
	b.table.add(figure{name: "bin/virtctl, stripped", promise: 45, unit: mib, values: []float64{float64(info.Size()) / (1 << 20)}, upstream: "56 MiB"})
	var all int64
	for _, name := range []string{"virt-server", "virt-handler", "virt-launcher"} {
		all += b.unpacked(name)
	}
	b.table.add(figure{name: "three images unpacked", promise: 600, unit: mb, values: []float64{float64(all) / 1e6}, upstream: "about 1,200 MB"})
}

// unpacked counts the bytes of an image's layers as a node stores them.
func (b *bench) unpacked(name string) int64 {
	b.Helper()
	archive, err := images.Read(filepath.Join(b.cluster.Root, "out/images", name+".tar"))
	b.check(err)
	defer archive.Close()
	layers, err := archive.Images[0].V1().Layers()
	b.check(err)
	var all int64
	for _, layer := range layers {
		reader, err := layer.Uncompressed()
		b.check(err)
		n, err := io.Copy(io.Discard, reader)
		b.check(err)
		b.check(reader.Close())
		all += n
	}
	return all
}
