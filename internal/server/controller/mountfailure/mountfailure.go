// Package mountfailure learns from kubelet's events why a launcher pod's volumes do not come up: a Secret or ConfigMap that
// does not exist, a disk that cannot be attached. The pod's status does not tell, and the controller may not read Secrets.
package mountfailure

import (
	"context"
	"fmt"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"virtctl/internal/server/controller/launcherpod"
)

// most is how many pods are remembered; beyond that the oldest are forgotten.
const most = 4096

type failure struct{ reason, message string }

// Watcher remembers the last failure of each pod. It is a manager's runnable.
type Watcher struct {
	events corev1client.EventsGetter
	// pods is where a pod is looked up by name: events do not carry owners.
	pods client.Reader
	out  chan event.GenericEvent

	mu    sync.Mutex
	known map[types.UID]failure
	order []types.UID
}

// New gives a Watcher. pods should be a cache of launcher pods.
func New(events corev1client.EventsGetter, pods client.Reader) *Watcher {
	return &Watcher{events: events, pods: pods, out: make(chan event.GenericEvent, 64), known: map[types.UID]failure{}}
}

// Failures brings the pods about which something new is known.
func (w *Watcher) Failures() <-chan event.GenericEvent { return w.out }

// Of tells what kubelet last said about a pod's volumes. It is of interest only while the pod's container waits.
func (w *Watcher) Of(pod types.UID) (reason, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.known[pod]
	return f.reason, f.message
}

// Start watches until the context ends. Only the leader needs to know.
func (w *Watcher) Start(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, reason := range []string{"FailedMount", "FailedAttachVolume"} {
		_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
			ListerWatcher: w.listWatch(reason),
			ObjectType:    &corev1.Event{},
			Transform:     strip,
			Handler: cache.ResourceEventHandlerFuncs{
				AddFunc:    func(obj any) { w.note(ctx, obj) },
				UpdateFunc: func(_, obj any) { w.note(ctx, obj) },
			},
		})
		wg.Go(func() { informer.RunWithContext(ctx) })
	}
	wg.Wait()
	return nil
}

func (w *Watcher) listWatch(reason string) cache.ListerWatcher {
	selector := fields.Set{"reason": reason, "involvedObject.kind": "Pod"}.AsSelector().String()
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector
			list, err := w.events.Events(metav1.NamespaceAll).List(ctx, o)
			if err != nil {
				return nil, fmt.Errorf("list events with reason %s: %w", reason, err)
			}
			return list, nil
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector
			return w.events.Events(metav1.NamespaceAll).Watch(ctx, o)
		},
	}
	return cache.ToListWatcherWithWatchListSemantics(lw, w.events)
}

// strip keeps what note reads.
func strip(obj any) (any, error) {
	if e, ok := obj.(*corev1.Event); ok {
		return &corev1.Event{
			ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: e.Name, UID: e.UID, ResourceVersion: e.ResourceVersion},
			Reason:     e.Reason, Message: e.Message,
			InvolvedObject: corev1.ObjectReference{Namespace: e.InvolvedObject.Namespace, Name: e.InvolvedObject.Name, UID: e.InvolvedObject.UID},
		}, nil
	}
	return obj, nil
}

func (w *Watcher) note(ctx context.Context, obj any) {
	e, ok := obj.(*corev1.Event)
	if !ok {
		return
	}
	pod := &corev1.Pod{}
	key := types.NamespacedName{Namespace: e.InvolvedObject.Namespace, Name: e.InvolvedObject.Name}
	if err := w.pods.Get(ctx, key, pod); err != nil || pod.UID != e.InvolvedObject.UID || pod.Labels["kubevirt.io"] != launcherpod.Label {
		return // not a launcher, or one that is gone
	}
	if !w.remember(pod.UID, failure{e.Reason, e.Message}) {
		return
	}
	select {
	case w.out <- event.GenericEvent{Object: pod}:
	case <-ctx.Done():
	}
}

// remember tells whether the failure is news.
func (w *Watcher) remember(pod types.UID, f failure) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	old, ok := w.known[pod]
	// Every two minutes kubelet sums up what it has waited for, which says less than the failure itself.
	if ok && (old == f || strings.HasPrefix(f.message, "Unable to attach or mount volumes")) {
		return false
	}
	if !ok {
		w.order = append(w.order, pod)
	}
	w.known[pod] = f
	if len(w.order) > most {
		delete(w.known, w.order[0])
		w.order = w.order[1:]
	}
	return true
}
