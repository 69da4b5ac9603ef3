package api

import (
	"net/http"
	"runtime"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"virtctl/internal/version"
)

// metrics counts users' sessions with guests. Names and labels are the public contract.
type metrics struct {
	registry *prometheus.Registry
	sessions map[string]*prometheus.GaugeVec
	last     *prometheus.GaugeVec

	mu   sync.Mutex
	open map[sessionKey]int
}

type sessionKey struct{ kind, namespace, name string }

func newMetrics(ready func() error) *metrics {
	labels := []string{"namespace", "vmi"}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		sessions: map[string]*prometheus.GaugeVec{
			"console": gauge("kubevirt_console_active_connections", "Amount of active Console connections, broken down by namespace and vmi name."),
			"vnc":     gauge("kubevirt_vnc_active_connections", "Amount of active VNC connections, broken down by namespace and vmi name."),
			"portforward": gauge("kubevirt_portforward_active_tunnels",
				"Amount of active portforward tunnels, broken down by namespace and vmi name."),
		},
		last: gauge("kubevirt_vmi_last_api_connection_timestamp_seconds",
			"Virtual Machine Instance last API connection timestamp. Including VNC, console, portforward, SSH and usbredir connections."),
		open: map[sessionKey]int{},
	}
	info := version.Get()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "kubevirt_info", Help: "Version information.",
		ConstLabels: prometheus.Labels{"goversion": runtime.Version(), "kubeversion": info.GitVersion},
	})
	build.Set(1)
	state := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "kubevirt_virt_api_ready_status", Help: "Indication for a virt-api that is ready to serve: 1 if it is, 0 if not.",
	}, func() float64 {
		if ready() != nil {
			return 0
		}
		return 1
	})
	m.registry.MustRegister(state)
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), build, m.last)
	for _, g := range m.sessions {
		m.registry.MustRegister(g)
	}
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Open counts a session until the function it gives is called. Series of VMIs without a session go away.
func (m *metrics) Open(kind, namespace, name string) func() {
	key := sessionKey{kind, namespace, name}
	m.last.WithLabelValues(namespace, name).SetToCurrentTime()
	m.count(key, 1)
	return sync.OnceFunc(func() { m.count(key, -1) })
}

func (m *metrics) count(key sessionKey, change int) {
	g, counted := m.sessions[key.kind]
	if !counted {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open[key] += change
	if m.open[key] <= 0 {
		delete(m.open, key)
		g.DeleteLabelValues(key.namespace, key.name)
		return
	}
	g.WithLabelValues(key.namespace, key.name).Set(float64(m.open[key]))
}
