// Package metric holds the controller's own metrics, by the names of the contract.
package metric

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Set are the metrics.
type Set struct {
	// Profile has one series with the value 1 for each storage class.
	Profile *prometheus.GaugeVec
	// Outdated is 1 for each DataImportCron whose import is not the newest.
	Outdated *prometheus.GaugeVec
}

// New makes the metrics and registers them. pending counts, when it is asked, the DataVolumes that wait for a default storage class.
func New(r prometheus.Registerer, pending func() float64) (*Set, error) {
	s := &Set{
		Profile: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "kubevirt_cdi_storageprofile_info",
			Help: "`StorageProfiles` info labels: `storageclass`, `provisioner`, `complete` indicates if all storage profiles recommended " +
				"PVC settings are complete, `default` indicates if it's the Kubernetes default storage class, `virtdefault` indicates if " +
				"it's the default virtualization storage class, `rwx` indicates if the storage class supports `ReadWriteMany`, " +
				"`smartclone` indicates if it supports snapshot or csi based clone, `degraded` indicates it is not optimal for virtualization",
		}, []string{"storageclass", "provisioner", "complete", "default", "virtdefault", "rwx", "smartclone", "degraded"}),
		Outdated: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "kubevirt_cdi_dataimportcron_outdated",
			Help: "DataImportCron has an outdated import",
		}, []string{"ns", "cron_name", "pending"}),
	}
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "kubevirt_cdi_datavolume_pending",
		Help: "Number of DataVolumes pending for default storage class to be configured",
	}, pending)
	for _, c := range []prometheus.Collector{s.Profile, s.Outdated, waiting} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register a metric: %w", err)
		}
	}
	return s, nil
}
