package metrics

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/libvirt/wire"
)

// played collects one guest's series.
type played struct {
	stats wire.Stats
	vmi   *v1.VirtualMachineInstance
	info  *wire.GuestInfo
}

func (p played) Describe(chan<- *prometheus.Desc) {}

func (p played) Collect(out chan<- prometheus.Metric) {
	g := guest{labels: []string{"node01", "lab", "web"}, stats: p.stats.Values, names: p.stats.Names, vmi: p.vmi, out: out, seen: map[string]bool{}}
	g.all()
	g.inside(p.info)
}

func gather(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			out[f.GetName()+"{"+strings.Join(labels, ",")+"}"] = value(m)
		}
	}
	return out
}

func value(m *dto.Metric) float64 {
	if m.Counter != nil {
		return m.Counter.GetValue()
	}
	return m.Gauge.GetValue()
}

// Dashboards and alerts read these names, labels and units.
func TestSeries(t *testing.T) {
	vmi := &v1.VirtualMachineInstance{}
	vmi.Spec.Domain.Devices.Interfaces = []v1.Interface{{Name: "default"}}
	vmi.Status.VolumeStatus = []v1.VolumeStatus{{Name: "root", Target: "vda"}}
	got := gather(t, played{vmi: vmi, info: &wire.GuestInfo{
		Disks: []wire.GuestFS{{Disk: "vda1", Type: "ext4", MountPoint: "/", UsedBytes: 5, TotalBytes: 10}, {Disk: "vda1", Type: "ext4", MountPoint: "/"}},
		Load:  []float64{0.5, 0.25, 0.125},
	}, stats: wire.Stats{
		Names: map[string]string{"block.0.name": "vda", "block.1.name": "sda", "net.0.name": "tap0"},
		Values: map[string]uint64{
			"cpu.time": 2_500_000_000, "balloon.current": 1024, "vcpu.maximum": 2, "vcpu.0.time": 1_000_000_000, "vcpu.0.state": 1,
			"vcpu.0.wait": 500_000_000, "block.count": 2, "block.0.rd.reqs": 7, "block.1.rd.bytes": 512, "net.count": 1, "net.0.rx.bytes": 9, "net.0.tx.bytes": 4,
			"block.0.rd.times": 1_000_000,
		},
	}})
	const id = "name=web,namespace=lab,node=node01"
	for name, want := range map[string]float64{
		"kubevirt_vmi_cpu_usage_seconds_total{" + id + "}":                                                  2.5,
		"kubevirt_vmi_memory_actual_balloon_bytes{" + id + "}":                                              1 << 20,
		"kubevirt_vmi_vcpu_seconds_total{id=0," + id + ",state=running}":                                    1,
		"kubevirt_vmi_vcpu_wait_seconds_total{id=0," + id + "}":                                             0.5,
		"kubevirt_vmi_storage_iops_read_total{drive=root," + id + "}":                                       7,
		"kubevirt_vmi_storage_read_times_seconds_total{drive=root," + id + "}":                              0.001,
		"kubevirt_vmi_storage_read_traffic_bytes_total{drive=sda," + id + "}":                               512,
		"kubevirt_vmi_network_receive_bytes_total{interface=default," + id + "}":                            9,
		"kubevirt_vmi_network_traffic_bytes_total{interface=default," + id + ",type=tx}":                    4,
		"kubevirt_vmi_filesystem_used_bytes{disk_name=vda1,file_system_type=ext4,mount_point=/," + id + "}": 5,
		"kubevirt_vmi_guest_load_5m{" + id + "}":                                                            0.25,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s: %v (there: %v), want %v", name, v, ok, want)
		}
	}
}

// A launcher that says nonsense must not make a scrape fail or grow without bounds.
func TestSeriesBounds(t *testing.T) {
	got := gather(t, played{stats: wire.Stats{Names: map[string]string{"block.0.name": "\xff"}, Values: map[string]uint64{
		"vcpu.maximum": 1 << 60, "block.count": 1 << 60, "net.count": 1 << 60, "block.0.rd.reqs": 1, "block.1.rd.reqs": 1, "block.2.rd.reqs": 1,
	}}})
	if len(got) > 2*maxDevices+10 {
		t.Errorf("%d series", len(got))
	}
}
