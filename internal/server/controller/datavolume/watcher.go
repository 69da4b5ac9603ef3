// Package datavolume makes the DataVolumes of VMs' templates and tells how far DataVolumes are. A cluster need not have them:
// the kind is used from the moment its definition appears, without a restart.
package datavolume

import (
	"k8s.io/client-go/metadata"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/server/appear"
)

// Watcher knows the cluster's DataVolumes. It is a manager's runnable.
type Watcher struct {
	*appear.Kind
	available func() bool
	client    client.Client
	live      client.Reader
}

// New gives a Watcher. m watches for the definition, live reads what is not worth caching.
func New(m metadata.Interface, c cache.Cache, cl client.Client, live client.Reader) *Watcher {
	kind := &appear.Kind{Definition: "datavolumes.cdi.kubevirt.io", Object: &cdi.DataVolume{}, Metadata: m, Cache: c}
	return &Watcher{Kind: kind, available: kind.Available, client: cl, live: live}
}
