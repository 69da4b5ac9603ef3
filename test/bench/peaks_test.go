//go:build bench

package bench

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"virtctl/internal/client"
)

// peak is the most that a process of a pod has had in memory, in MiB, and how many bytes it has written to disks.
type peak struct {
	kind             string
	rss, pss, writes float64
}

// peaks watches the workers of a namespace and the proxies while they work, pod by pod.
type peaks struct {
	end  chan struct{}
	seen chan map[string]peak
}

// moment is how often processes are looked at. The kernel itself remembers the most memory one had in RAM.
const moment = 100 * time.Millisecond

func (b *bench) watchPeaks(namespace string) *peaks {
	p := &peaks{end: make(chan struct{}), seen: make(chan map[string]peak, 1)}
	go func() {
		seen := map[string]peak{}
		tick := time.NewTicker(moment)
		defer tick.Stop()
		for {
			select {
			case <-p.end:
				p.seen <- seen
				return
			case <-tick.C:
				b.lookAt(seen, namespace, "")
				b.lookAt(seen, "kubevirt", "cdi.kubevirt.io in (cdi-apiserver, cdi-uploadproxy)")
			}
		}
	}()
	return p
}

func (p *peaks) stop() map[string]peak {
	close(p.end)
	return <-p.seen
}

// weighWorkers judges memory by the kind of worker, and what each import and upload wrote by the image's data.
func (b *bench) weighWorkers(pods map[string]peak) {
	b.Helper()
	most := map[string]peak{}
	for _, pod := range slices.Sorted(maps.Keys(pods)) {
		p := pods[pod]
		so := most[p.kind]
		most[p.kind] = peak{rss: max(so.rss, p.rss), pss: max(so.pss, p.pss)}
		if strings.Contains(pod, "import-") || strings.Contains(pod, "upload-upload-") {
			b.table.add(figure{name: pod + ": written to the disk, of the data", promise: 1.02, unit: ratio, values: []float64{p.writes / data}})
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(most)) {
		b.table.add(figure{name: kind + ", peak RSS", promise: 80, unit: mib, values: []float64{most[kind].rss}})
		b.table.add(figure{name: kind + ", peak PSS (sampled)", promise: 80, unit: mib, values: []float64{most[kind].pss}})
	}
}

// lookAt weighs the processes of pods; those that end meanwhile do not count.
func (b *bench) lookAt(seen map[string]peak, namespace, labels string) {
	pods, err := b.client.Pods(namespace).List(b.ctx, client.ListOptions{LabelSelector: labels})
	if err != nil {
		return
	}
	for _, pod := range pods.Items {
		kind := pod.Labels["cdi.kubevirt.io"]
		for _, dir := range b.processDirs(pod.UID) {
			process, err := weigh(dir)
			if err != nil || kind == "" || process.program == "pause" {
				continue
			}
			rss, err := entry(dir, "status", "VmHWM:")
			if err != nil {
				continue
			}
			// Counted when a page of a file becomes dirty, so that the last sync still shows all of it.
			writes, err := entry(dir, "io", "write_bytes:")
			if err != nil {
				continue
			}
			so := seen[pod.Name]
			seen[pod.Name] = peak{kind, max(so.rss, rss/1024), max(so.pss, process.pss), max(so.writes, writes)}
		}
	}
}

// entry is a number in one of a process's files.
func entry(dir, file, key string) (float64, error) {
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == key {
			return strconv.ParseFloat(fields[1], 64)
		}
	}
	return 0, fmt.Errorf("%s/%s has no line %s", dir, file, key)
}
