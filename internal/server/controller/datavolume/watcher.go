// Package datavolume makes the DataVolumes of VMs' templates and tells how far DataVolumes are. A cluster need not have them:
// the kind is used from the moment its definition appears, without a restart.
package datavolume

import (
	"context"
	"errors"
	"time"

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
	settled   <-chan struct{}
	client    client.Client
	live      client.Reader
}

// New gives a Watcher. m watches for the definition, live reads what is not worth caching.
func New(m metadata.Interface, c cache.Cache, cl client.Client, live client.Reader) *Watcher {
	kind := &appear.Kind{Definition: "datavolumes.cdi.kubevirt.io", Object: &cdi.DataVolume{}, Metadata: m, Cache: c}
	return &Watcher{Kind: kind, available: kind.Available, settled: kind.Settled(), client: cl, live: live}
}

// patience is how long a question waits for an answer that takes milliseconds where nothing is wrong.
const patience = 10 * time.Second

// present tells whether the cluster has DataVolumes. A controller that has just begun does not know yet: to take them for absent would start
// VMs with disks that are not filled.
func (w *Watcher) present(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-w.settled:
		return w.available(), nil
	default:
	}
	select {
	case <-w.settled:
		return w.available(), nil
	case <-ctx.Done():
		return false, errors.New("it is not known yet whether this cluster has DataVolumes; may virt-controller list CustomResourceDefinitions?")
	}
}
