// Package playednode plays kubelet and virt-handler for tests of what virt-controller does: launcher pods of nodes that no machine
// stands behind become ready, their guests run, and end when somebody deletes them. A scheduler is played only where there is none.
package playednode

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/wire"
	"virtctl/internal/server/handler/status"
)

// workers play several machines at once, as several nodes do; what belongs to one machine keeps its order.
const workers = 16

// Settings say whose part is played.
type Settings struct {
	// Namespace is where the played machines are.
	Namespace string
	// Bind is the node that pods without one are bound to; empty leaves that to a scheduler.
	Bind string
	// Handler writes as a node's virt-handler does; nil where nobody asks who writes.
	Handler func(node string) client.Client
	// Failed is told of requests that the API server refused.
	Failed func(error)
}

type player struct {
	Settings
	client client.Client
	lanes  [workers]chan func()
	ended  sync.WaitGroup
}

// Play begins and returns what ends it.
func Play(config *rest.Config, c client.Client, s Settings) (stop func(), err error) {
	p := &player{Settings: s, client: c}
	if p.Handler == nil {
		p.Handler = func(string) client.Client { return c }
	}
	informers, err := cache.New(config, cache.Options{Scheme: c.Scheme(), DefaultNamespaces: map[string]cache.Config{s.Namespace: {}}})
	if err != nil {
		return nil, fmt.Errorf("watch what is to be played: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stop = func() { cancel(); p.ended.Wait() }
	for i := range p.lanes {
		p.lanes[i] = make(chan func(), 4096)
		p.ended.Go(func() { p.work(ctx, p.lanes[i]) })
	}
	p.ended.Go(func() { p.tell(ctx, informers.Start(ctx)) })
	for kind, play := range map[client.Object]func(context.Context, any){&corev1.Pod{}: p.pod, &v1.VirtualMachineInstance{}: p.machine} {
		informer, err := informers.GetInformer(ctx, kind)
		if err != nil {
			stop()
			return nil, fmt.Errorf("watch what is to be played: %w", err)
		}
		handler := toolscache.ResourceEventHandlerFuncs{
			AddFunc:    func(obj any) { play(ctx, obj) },
			UpdateFunc: func(_, obj any) { play(ctx, obj) },
		}
		if _, err := informer.AddEventHandler(handler); err != nil {
			stop()
			return nil, fmt.Errorf("watch what is to be played: %w", err)
		}
	}
	return stop, nil
}

func (p *player) work(ctx context.Context, lane <-chan func()) {
	for {
		select {
		case act := <-lane:
			act()
		case <-ctx.Done():
			return
		}
	}
}

// tell reports what failed, but for what the end of the play cut off.
func (p *player) tell(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		p.Failed(err)
	}
}

// queue gives work to the lane of the machine it is for.
func (p *player) queue(machine types.UID, act func()) {
	p.lanes[machine[0]%workers] <- act
}

func (p *player) machine(ctx context.Context, obj any) {
	vmi, ok := obj.(*v1.VirtualMachineInstance)
	if ok && vmi.DeletionTimestamp != nil {
		p.queue(vmi.UID, func() { p.guestEnds(ctx, vmi) })
	}
}

func (p *player) pod(ctx context.Context, obj any) {
	pod, ok := obj.(*corev1.Pod)
	if !ok || pod.Labels[v1.AppLabel] != "virt-launcher" {
		return
	}
	if owner := metav1.GetControllerOf(pod); owner != nil {
		p.queue(owner.UID, func() { p.play(ctx, pod.DeepCopy()) })
	}
}

// play does what kubelet does next for a pod.
func (p *player) play(ctx context.Context, pod *corev1.Pod) {
	gate := corev1.ConditionUnknown
	for _, cond := range pod.Status.Conditions {
		if cond.Type == v1.VirtualMachineUnpaused {
			gate = cond.Status
		}
	}
	switch {
	case pod.DeletionTimestamp != nil:
		_ = p.client.Delete(ctx, pod, client.GracePeriodSeconds(0))
	case pod.Spec.NodeName == "" && p.Bind != "":
		_ = p.client.SubResource("binding").Create(ctx, pod, &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: p.Bind}})
	case pod.Spec.NodeName == "" || pod.Status.Phase == corev1.PodSucceeded:
	case pod.Status.Phase != corev1.PodRunning:
		p.podRuns(ctx, pod)
	case gate == corev1.ConditionTrue:
		patch := client.StrategicMergeFrom(pod.DeepCopy())
		for i := range pod.Status.Conditions {
			if pod.Status.Conditions[i].Type == corev1.PodReady {
				pod.Status.Conditions[i].Status, pod.Status.Conditions[i].Reason = corev1.ConditionTrue, ""
			}
		}
		_ = p.client.Status().Patch(ctx, pod, patch)
	}
}

// podRuns refuses to act on old news: what changed the pod meanwhile comes by itself.
func (p *player) podRuns(ctx context.Context, pod *corev1.Pod) {
	patch := client.StrategicMergeFrom(pod.DeepCopy(), client.MergeFromWithOptimisticLock{})
	pod.Status.Phase = corev1.PodRunning
	pod.Status.Conditions = append(pod.Status.Conditions,
		corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionTrue},
		corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "ReadinessGatesNotReady"})
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: layout.ComputeContainer, Ready: true, State: corev1.ContainerState{
		Running: &corev1.ContainerStateRunning{},
	}}}
	if p.client.Status().Patch(ctx, pod, patch) == nil {
		p.guestRuns(ctx, pod)
	}
}

// guestRuns is virt-handler's one write, of what it would have seen.
func (p *player) guestRuns(ctx context.Context, pod *corev1.Pod) {
	vmi := &v1.VirtualMachineInstance{}
	key := client.ObjectKey{Namespace: pod.Namespace, Name: metav1.GetControllerOf(pod).Name}
	if err := p.client.Get(ctx, key, vmi); err != nil {
		p.tell(ctx, client.IgnoreNotFound(err))
		return
	}
	after := vmi.DeepCopy()
	seen := &status.Observed{
		Now: time.Now(), Node: pod.Spec.NodeName, PodUID: pod.UID, State: wire.State{State: wire.StateRunning}, Launcher: status.LauncherOf(pod),
	}
	status.Apply(vmi, &after.Status, seen)
	after.Labels = maps.Clone(after.Labels)
	if after.Labels == nil {
		after.Labels = map[string]string{}
	}
	maps.Copy(after.Labels, seen.Labels())
	p.tell(ctx, client.IgnoreNotFound(p.Handler(pod.Spec.NodeName).Patch(ctx, after, client.MergeFrom(vmi))))
}

// guestEnds is what virt-handler, the launcher and kubelet make of a deleted VMI.
func (p *player) guestEnds(ctx context.Context, vmi *v1.VirtualMachineInstance) {
	var pods corev1.PodList
	if err := p.client.List(ctx, &pods, client.InNamespace(vmi.Namespace), client.MatchingLabels{v1.CreatedByLabel: string(vmi.UID)}); err != nil {
		p.tell(ctx, err)
		return
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if pod.Status.Phase == corev1.PodSucceeded {
			continue
		}
		patch := client.StrategicMergeFrom(pod.DeepCopy())
		pod.Status.Phase = corev1.PodSucceeded
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: layout.ComputeContainer, State: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{Reason: "Completed", FinishedAt: metav1.Now()},
		}}}
		p.tell(ctx, client.IgnoreNotFound(p.client.Status().Patch(ctx, pod, patch)))
	}
}
