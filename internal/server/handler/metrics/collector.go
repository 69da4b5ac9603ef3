// Package metrics tells Prometheus what the guests of this node use. Names and labels are the public contract (KubeVirt's
// docs/observability/metrics.md). Nothing is counted between scrapes: each asks libvirt.
package metrics

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/libvirt/wire"
	"virtctl/internal/server/handler/launchers"
)

const (
	// patience bounds how long one launcher may take; a scrape goes on without it.
	patience = 3 * time.Second
	// atOnce is how many launchers are asked at the same time.
	atOnce = 8
)

// Collector asks this node's launchers.
type Collector struct {
	Node      string
	Launchers *launchers.Set
	// Objects has the node's VirtualMachineInstances.
	Objects client.Reader
}

// Describe sends nothing: which series there are depends on the guests.
func (c *Collector) Describe(chan<- *prometheus.Desc) {}

// Collect asks every launcher whose guest runs.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	out <- prometheus.MustNewConstMetric(desc("kubevirt_virt_handler_ready_status", "Indication for a virt-handler that is ready."), prometheus.GaugeValue, 1)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var asking sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	c.Launchers.Each(func(l *launchers.Launcher) {
		asking.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			c.collect(ctx, l, out)
		})
	})
	asking.Wait()
}

func (c *Collector) collect(ctx context.Context, l *launchers.Launcher, out chan<- prometheus.Metric) {
	view := l.View()
	if view.Peer == nil {
		return
	}
	stats, err := view.Peer.Client.Stats(ctx)
	if err != nil {
		return // its guest has ended meanwhile, or it is too slow; the next scrape asks again
	}
	vmi := &v1.VirtualMachineInstance{}
	if err := c.Objects.Get(ctx, l.Ref.VMI, vmi); err != nil || vmi.UID != l.Ref.VMIUID {
		vmi = nil
	}
	g := guest{labels: []string{c.Node, l.Ref.VMI.Namespace, l.Ref.VMI.Name}, stats: stats.Values, names: stats.Names, vmi: vmi, out: out, seen: map[string]bool{}}
	g.all()
	g.inside(view.Guest)
}

// guest is one guest's part of a scrape.
type guest struct {
	labels []string
	stats  map[string]uint64
	names  map[string]string
	vmi    *v1.VirtualMachineInstance
	out    chan<- prometheus.Metric
	// seen keeps a series from being told twice: Prometheus refuses a whole scrape for that.
	seen map[string]bool
}

var common = []string{"node", "namespace", "name"}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// send tells one value; more are the values of labels beside node, namespace and name.
func (g guest) send(s series, value float64, more ...string) {
	labels := append(append([]string{}, common...), s.labels...)
	values := append(append([]string{}, g.labels...), more...)
	key := s.name + "\x00" + strings.Join(more, "\x00")
	if g.seen[key] {
		return
	}
	g.seen[key] = true
	kind := prometheus.GaugeValue
	if s.counter {
		kind = prometheus.CounterValue
	}
	// Values of labels come from guests and objects: what Prometheus cannot take is left out.
	if m, err := prometheus.NewConstMetric(desc(s.name, s.help, labels...), kind, value, values...); err == nil {
		g.out <- m
	}
}

// plain sends the series whose key libvirt knows.
func (g guest) plain(list []series, prefix string, more ...string) {
	for _, s := range list {
		if value, ok := g.stats[prefix+s.key]; ok {
			g.send(s, float64(value)*s.factor(), more...)
		}
	}
}

// inside tells what the guest's agent says.
func (g guest) inside(info *wire.GuestInfo) {
	if info == nil {
		return
	}
	for _, fs := range info.Disks {
		g.send(fsCapacity, float64(fs.TotalBytes), fs.Disk, fs.Type, fs.MountPoint)
		g.send(fsUsed, float64(fs.UsedBytes), fs.Disk, fs.Type, fs.MountPoint)
	}
	for i, s := range guestLoad() {
		if i < len(info.Load) {
			g.send(s, info.Load[i])
		}
	}
}
