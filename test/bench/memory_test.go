//go:build bench

package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
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

// idleCluster weighs the whole embedded Kubernetes before anything is installed: its server and what is in its control group.
func (b *bench) idleCluster() {
	result := b.cluster.Command(b.ctx, "", "virt-kube", "status", "--state-dir", b.cluster.State, "-o", "json")
	var server struct{ Pid int }
	b.check(json.Unmarshal([]byte(result.Stdout), &server))
	dirs := append(b.dirsOf("/virt-kube-"+instance+"/"), fmt.Sprintf("/proc/%d", server.Pid))
	var all float64
	sums := map[string]float64{}
	for _, dir := range slices.Compact(slices.Sorted(slices.Values(dirs))) {
		p, err := weigh(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		b.check(err)
		all += p.pss
		sums[p.program] += p.pss
	}
	b.table.add(figure{name: "embedded Kubernetes idle, one node, PSS", promise: 700, unit: mib, values: []float64{all}})
	var parts []string
	for _, program := range slices.Sorted(maps.Keys(sums)) {
		parts = append(parts, fmt.Sprintf("%s %.1f", program, sums[program]))
	}
	b.table.note("embedded Kubernetes, MiB PSS of %d processes: %s", len(dirs), strings.Join(parts, ", "))
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
	return b.dirsOf("pod"+string(pod), "pod"+strings.ReplaceAll(string(pod), "-", "_"))
}

// dirsOf finds the processes in /proc whose control group's path contains one of these.
func (b *bench) dirsOf(parts ...string) []string {
	b.Helper()
	groups, err := filepath.Glob("/proc/[0-9]*/cgroup")
	b.check(err)
	var dirs []string
	for _, group := range groups {
		data, err := os.ReadFile(group)
		if err == nil && slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(string(data), part) }) {
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
