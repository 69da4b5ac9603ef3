// Package datavolume makes the DataVolumes of VMs' templates and tells how far DataVolumes are. A cluster need not have them:
// the kind is used from the moment its definition appears, without a restart.
package datavolume

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	toolscache "k8s.io/client-go/tools/cache"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// definition is the name of the kind's CustomResourceDefinition.
const definition = "datavolumes.cdi.kubevirt.io"

var definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// Watcher knows the cluster's DataVolumes. It is a manager's runnable.
type Watcher struct {
	metadata metadata.Interface
	cache    cache.Cache
	client   client.Client
	live     client.Reader

	available atomic.Bool
	mu        sync.Mutex
	followers []follower
}

// follower is a controller that wants to hear of DataVolumes.
type follower struct {
	controller controller.Controller
	handler    handler.EventHandler
}

// New gives a Watcher. m watches for the definition, live reads what is not worth caching.
func New(m metadata.Interface, c cache.Cache, cl client.Client, live client.Reader) *Watcher {
	return &Watcher{metadata: m, cache: c, client: cl, live: live}
}

// Follow brings DataVolumes' events to a controller, as soon as there are any. It must be called before the manager starts.
func (w *Watcher) Follow(c controller.Controller, h handler.EventHandler) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.followers = append(w.followers, follower{c, h})
}

// Start waits for the definition.
func (w *Watcher) Start(ctx context.Context) error {
	only := fields.OneTermEqualSelector("metadata.name", definition).String()
	client := w.metadata.Resource(definitions)
	lw := &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = only
			list, err := client.List(ctx, o)
			if err != nil {
				return nil, fmt.Errorf("look for the definition of DataVolumes: %w", err)
			}
			return list, nil
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = only
			return client.Watch(ctx, o)
		},
	}
	_, informer := toolscache.NewInformerWithOptions(toolscache.InformerOptions{
		ListerWatcher: toolscache.ToListWatcherWithWatchListSemantics(lw, w.metadata),
		ObjectType:    &metav1.PartialObjectMetadata{},
		Handler:       toolscache.ResourceEventHandlerFuncs{AddFunc: func(any) { w.appeared(ctx) }},
	})
	informer.RunWithContext(ctx)
	return nil
}

// appeared starts watching DataVolumes. Should the definition go, the watches stay and find nothing.
func (w *Watcher) appeared(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.available.Load() {
		return
	}
	for _, f := range w.followers {
		if err := f.controller.Watch(source.Kind[client.Object](w.cache, &cdi.DataVolume{}, f.handler)); err != nil {
			log.FromContext(ctx).Error(err, "cannot watch DataVolumes")
			return
		}
	}
	w.available.Store(true)
}
