package serving

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics say how the process is and whether it is ready.
func (s *Server) metrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "virtctl_cdi_server_ready", Help: "1 if the server is ready, 0 if not.", ConstLabels: prometheus.Labels{"server": s.Name},
		}, func() float64 {
			if s.Ready() != nil {
				return 0
			}
			return 1
		}),
	)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}
