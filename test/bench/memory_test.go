//go:build bench

package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"virtctl/internal/client"
)

// process is one process of a pod with its share of memory: pages that several use are divided between them.
type process struct {
	program string
	pss     float64
}

// weighLauncher weighs everything in the only launcher pod there is, before and without QEMU.
func (b *bench) weighLauncher(namespace string) {
	b.Helper()
	pods, err := b.client.Pods(namespace).List(b.ctx, client.ListOptions{LabelSelector: "kubevirt.io=virt-launcher"})
	b.check(err)
	if len(pods.Items) != 1 {
		b.Fatalf("%d launcher pods, want one", len(pods.Items))
	}
	var all, launcher float64
	var parts []string
	for _, p := range b.processes(pods.Items[0].UID) {
		parts = append(parts, fmt.Sprintf("%s %.1f", p.program, p.pss))
		if strings.HasPrefix(p.program, "qemu-system-") {
			continue
		}
		all += p.pss
		if p.program == "virt-launcher" {
			launcher += p.pss
		}
	}
	b.table.add(figure{name: "launcher pod beside QEMU, PSS", promise: 55, unit: mib, values: []float64{all}, upstream: "106 MiB"})
	b.table.add(figure{name: "virt-launcher itself, PSS", promise: 18, unit: mib, values: []float64{launcher}, upstream: "54 MiB"})
	b.table.note("launcher pod, MiB PSS: %s", strings.Join(parts, ", "))
}

// idleMemory weighs the platform after it has worked, with no machine left.
func (b *bench) idleMemory() {
	pods, err := b.client.Pods("kubevirt").List(b.ctx, client.ListOptions{})
	b.check(err)
	var all float64
	var parts []string
	for _, pod := range pods.Items {
		var sum float64
		for _, p := range b.processes(pod.UID) {
			sum += p.pss
		}
		all += sum
		parts = append(parts, fmt.Sprintf("%s %.1f", pod.Name, sum))
	}
	b.table.add(figure{name: "platform idle, PSS of all its pods", promise: 300, unit: mib, values: []float64{all}, upstream: "1,425 MiB, two replicas"})
	b.table.note("platform, MiB PSS: %s", strings.Join(parts, ", "))
}

// processDirs finds a pod's processes in /proc by their control group.
func (b *bench) processDirs(pod types.UID) []string {
	b.Helper()
	groups, err := filepath.Glob("/proc/[0-9]*/cgroup")
	b.check(err)
	underscored := strings.ReplaceAll(string(pod), "-", "_")
	var dirs []string
	for _, group := range groups {
		data, err := os.ReadFile(group)
		text := string(data)
		if err == nil && (strings.Contains(text, "pod"+string(pod)) || strings.Contains(text, "pod"+underscored)) {
			dirs = append(dirs, filepath.Dir(group))
		}
	}
	return dirs
}

// processes weighs a pod's processes.
func (b *bench) processes(pod types.UID) []process {
	b.Helper()
	var found []process
	for _, dir := range b.processDirs(pod) {
		p, err := weigh(dir)
		if errors.Is(err, fs.ErrNotExist) {
			// It has ended meanwhile.
			continue
		}
		b.check(err)
		found = append(found, p)
	}
	if len(found) == 0 {
		b.Fatalf("pod %s has no process on this machine", pod)
	}
	return found
}

func weigh(dir string) (process, error) {
	exe, err := os.Readlink(filepath.Join(dir, "exe"))
	if err != nil {
		return process{}, err
	}
	data, err := os.ReadFile(filepath.Join(dir, "smaps_rollup"))
	if err != nil {
		return process{}, err
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) >= 2 && fields[0] == "Pss:" {
			kib, err := strconv.ParseFloat(fields[1], 64)
			return process{program: filepath.Base(exe), pss: kib / 1024}, err
		}
	}
	return process{}, fmt.Errorf("%s/smaps_rollup has no line Pss", dir)
}
