// Package metrics tells Prometheus what machines there are and how they fare. Names and labels are the public contract (KubeVirt's
// docs/observability/metrics.md). A scrape reads the cache; nothing is counted between scrapes.
package metrics

import (
	"context"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// patience bounds a scrape; the cache answers at once.
const patience = 5 * time.Second

// Collector reads machines from a cache.
type Collector struct {
	Reader client.Reader
	// Leads is closed when this replica is the one that works: only it counts machines, so that nothing is counted twice.
	Leads <-chan struct{}
	// Image is the launcher that new machines get.
	Image string
}

// Describe sends nothing: which series there are depends on the machines.
func (c *Collector) Describe(chan<- *prometheus.Desc) {}

// Collect tells of every machine.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	s := sink{out, map[string]bool{}}
	s.gauge("kubevirt_virt_controller_ready_status", "Indication for a virt-controller that is ready to take the lead.", 1, nil)
	select {
	case <-c.Leads:
		s.gauge("kubevirt_virt_controller_leading_status", "Indication for an operating virt-controller.", 1, nil)
	default:
		s.gauge("kubevirt_virt_controller_leading_status", "Indication for an operating virt-controller.", 0, nil)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	vms, vmis, migrations := &v1.VirtualMachineList{}, &v1.VirtualMachineInstanceList{}, &v1.VirtualMachineInstanceMigrationList{}
	for _, list := range []client.ObjectList{vms, vmis, migrations} {
		if err := c.Reader.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			return // the cache is not filled yet; the next scrape tells
		}
	}
	for i := range vms.Items {
		s.machine(&vms.Items[i])
	}
	outdated := 0
	for i := range vmis.Items {
		s.instance(&vmis.Items[i], c.outdated(&vmis.Items[i]))
		if c.outdated(&vmis.Items[i]) {
			outdated++
		}
	}
	s.gauge("kubevirt_vmi_number_of_outdated", "Indication for the total number of VirtualMachineInstance workloads that are not running within the most up-to-date version of the virt-launcher environment.", float64(outdated), nil)
	s.migrations(migrations.Items)
}

func (c *Collector) outdated(vmi *v1.VirtualMachineInstance) bool {
	_, labelled := vmi.Labels[v1.OutdatedLauncherImageLabel]
	return labelled || c.Image != "" && vmi.Status.LauncherContainerImageVersion != "" && vmi.Status.LauncherContainerImageVersion != c.Image
}

// sink takes series, each once: Prometheus refuses a whole scrape for one that comes twice.
type sink struct {
	out  chan<- prometheus.Metric
	seen map[string]bool
}

// label is one label and its value.
type label struct{ name, value string }

func (s sink) gauge(name, help string, value float64, labels []label) {
	s.send(prometheus.GaugeValue, name, help, value, labels)
}

func (s sink) counter(name, help string, value float64, labels []label) {
	s.send(prometheus.CounterValue, name, help, value, labels)
}

func (s sink) send(kind prometheus.ValueType, name, help string, value float64, labels []label) {
	names, values := make([]string, len(labels)), make([]string, len(labels))
	for i, l := range labels {
		names[i], values[i] = l.name, l.value
	}
	key := name + "\x00" + strings.Join(values, "\x00")
	if s.seen[key] {
		return
	}
	s.seen[key] = true
	// Values come from users' objects: what Prometheus cannot take is left out.
	if m, err := prometheus.NewConstMetric(prometheus.NewDesc(name, help, names, nil), kind, value, values...); err == nil {
		s.out <- m
	}
}
