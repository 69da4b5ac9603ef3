// Package follow keeps a clusterconfig.Source up to date from a controller-runtime cache.
package follow

import (
	"context"
	"fmt"
	"sync"

	toolscache "k8s.io/client-go/tools/cache"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"virtctl/internal/clusterconfig"
)

// Cache returns a Source that follows the KubeVirt objects of the cache. Until the cache has synced it gives the defaults;
// wait for the cache (or for the manager's runnables, which do) before acting on it.
func Cache(ctx context.Context, c cache.Cache) (*clusterconfig.Source, error) {
	informer, err := c.GetInformer(ctx, &v1.KubeVirt{}, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("watch KubeVirt objects: %w; check that the KubeVirt CRD is installed", err)
	}
	f := &follower{source: &clusterconfig.Source{}, seen: map[string]*v1.KubeVirt{}}
	if _, err := informer.AddEventHandler(f.handler()); err != nil {
		return nil, fmt.Errorf("watch KubeVirt objects: %w", err)
	}
	return f.source, nil
}

// follower picks one KubeVirt: admission allows only one in a cluster, and if two slipped in the oldest counts.
type follower struct {
	source *clusterconfig.Source
	mu     sync.Mutex
	seen   map[string]*v1.KubeVirt
}

func (f *follower) handler() toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { f.apply(obj, false) },
		UpdateFunc: func(_, obj any) { f.apply(obj, false) },
		DeleteFunc: func(obj any) { f.apply(obj, true) },
	}
}

func (f *follower) apply(obj any, gone bool) {
	if t, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
		obj = t.Obj
	}
	kv, ok := obj.(*v1.KubeVirt)
	if !ok {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	key := kv.Namespace + "/" + kv.Name
	if gone {
		delete(f.seen, key)
	} else {
		f.seen[key] = kv
	}
	var oldest *v1.KubeVirt
	for _, k := range f.seen {
		if oldest == nil || k.CreationTimestamp.Before(&oldest.CreationTimestamp) {
			oldest = k
		}
	}
	f.source.Set(oldest)
}
