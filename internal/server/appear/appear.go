// Package appear watches kinds that a cluster may or may not have, such as snapshots, from the moment their definition appears,
// without a restart.
package appear

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
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// Kind is one kind that may appear. It is a manager's runnable.
type Kind struct {
	// Definition is the name of the CustomResourceDefinition, Object one of the kind.
	Definition string
	Object     client.Object
	Metadata   metadata.Interface
	Cache      cache.Cache

	available atomic.Bool
	once      sync.Once
	looked    chan struct{}
	mu        sync.Mutex
	followers []follower
}

type follower struct {
	controller controller.Controller
	handler    handler.EventHandler
}

// Available tells whether the cluster has the kind.
func (k *Kind) Available() bool { return k != nil && k.available.Load() }

// Settled is closed when it has been looked: until then a kind that is not available may be there all the same.
func (k *Kind) Settled() <-chan struct{} {
	k.once.Do(func() { k.looked = make(chan struct{}) })
	return k.looked
}

// Follow brings the kind's events to a controller. It must be called before the manager starts.
func (k *Kind) Follow(c controller.Controller, h handler.EventHandler) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.followers = append(k.followers, follower{c, h})
}

// Start waits for the definition.
func (k *Kind) Start(ctx context.Context) error {
	definitions := k.Metadata.Resource(schema.GroupVersionResource{
		Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions",
	})
	only := fields.OneTermEqualSelector("metadata.name", k.Definition).String()
	lw := &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = only
			list, err := definitions.List(ctx, o)
			if err != nil {
				return nil, fmt.Errorf("look for the definition %s: %w", k.Definition, err)
			}
			return list, nil
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = only
			return definitions.Watch(ctx, o)
		},
	}
	_, informer := toolscache.NewInformerWithOptions(toolscache.InformerOptions{
		ListerWatcher: toolscache.ToListWatcherWithWatchListSemantics(lw, k.Metadata),
		ObjectType:    &metav1.PartialObjectMetadata{},
		Handler:       toolscache.ResourceEventHandlerFuncs{AddFunc: func(any) { k.appeared(ctx) }},
	})
	k.Settled()
	go func() {
		select {
		case <-informer.HasSyncedChecker().Done():
			close(k.looked)
		case <-ctx.Done():
		}
	}()
	informer.RunWithContext(ctx)
	return nil
}

// appeared starts watching. Should the definition go, the watches stay and find nothing.
func (k *Kind) appeared(ctx context.Context) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.available.Load() {
		return
	}
	for _, f := range k.followers {
		object, ok := k.Object.DeepCopyObject().(client.Object)
		if !ok {
			return
		}
		if err := f.controller.Watch(source.Kind[client.Object](k.Cache, object, f.handler)); err != nil {
			log.FromContext(ctx).Error(err, "cannot watch", "definition", k.Definition)
			return
		}
	}
	k.available.Store(true)
}
