package nodeclient

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// AgentLabel and AgentLabelValue mark the node agents' pods.
const (
	AgentLabel      = "kubevirt.io"
	AgentLabelValue = "virt-handler"
)

// Pods finds node agents among the pods of the install namespace.
type Pods struct {
	Reader    client.Reader
	Informers cache.Informers
	Namespace string
}

// Address gives the address of the node's agent. While a new agent takes over from an old one there are two pods; the
// newest ready one counts.
func (p Pods) Address(ctx context.Context, node string) (string, error) {
	if node == "" {
		return "", apierrors.NewInternalError(fmt.Errorf("the VirtualMachineInstance is on no node yet; wait until it runs"))
	}
	pods := &corev1.PodList{}
	if err := p.Reader.List(ctx, pods, client.InNamespace(p.Namespace), client.MatchingLabels{AgentLabel: AgentLabelValue}); err != nil {
		return "", fmt.Errorf("look for virt-handler on node %q: %w", node, err)
	}
	var best *corev1.Pod
	for i := range pods.Items {
		pod := &pods.Items[i]
		if pod.Spec.NodeName != node || pod.Status.PodIP == "" || pod.Status.Phase != corev1.PodRunning {
			continue
		}
		if best == nil || better(pod, best) {
			best = pod
		}
	}
	if best == nil {
		return "", apierrors.NewInternalError(fmt.Errorf("virt-handler does not run on node %q; check DaemonSet virt-handler in namespace %s",
			node, p.Namespace))
	}
	return best.Status.PodIP, nil
}

// Next gives the addresses of the node's agents that are ready, now and whenever something about one changes. A later address takes
// the place of one that nobody has read.
func (p Pods) Next(ctx context.Context, node string) (addresses <-chan string, stop func(), err error) {
	informer, err := p.Informers.GetInformer(ctx, &corev1.Pod{})
	if err != nil {
		return nil, nil, fmt.Errorf("watch virt-handler on node %q: %w", node, err)
	}
	next := make(chan string, 1)
	offer := func(o any) {
		pod, ok := o.(*corev1.Pod)
		if !ok || pod.Spec.NodeName != node || pod.Status.PodIP == "" || !ready(pod) {
			return
		}
		select {
		case <-next:
		default:
		}
		next <- pod.Status.PodIP // nobody else sends
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: offer, UpdateFunc: func(_, o any) { offer(o) },
	})
	if err != nil {
		return nil, nil, fmt.Errorf("watch virt-handler on node %q: %w", node, err)
	}
	return next, func() { _ = informer.RemoveEventHandler(registration) }, nil
}

func better(a, b *corev1.Pod) bool {
	if ready(a) != ready(b) {
		return ready(a)
	}
	return b.CreationTimestamp.Before(&a.CreationTimestamp)
}

func ready(pod *corev1.Pod) bool {
	if pod.DeletionTimestamp != nil {
		return false
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
