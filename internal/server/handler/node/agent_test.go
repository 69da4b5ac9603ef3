package node

import (
	"context"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

type cluster struct {
	client.WithWatch
	patched chan struct{}
}

func newCluster(labels map[string]string) *cluster {
	c := &cluster{patched: make(chan struct{}, 10)}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node01", Labels: labels}}
	c.WithWatch = fake.NewClientBuilder().WithObjects(node).WithInterceptorFuncs(interceptor.Funcs{
		Patch: func(ctx context.Context, cl client.WithWatch, obj client.Object, p client.Patch, opts ...client.PatchOption) error {
			err := cl.Patch(ctx, obj, p, opts...)
			c.patched <- struct{}{}
			return err
		},
	}).Build()
	return c
}

func (c *cluster) node(t *testing.T) *corev1.Node {
	t.Helper()
	n := &corev1.Node{}
	if err := c.Get(t.Context(), types.NamespacedName{Name: "node01"}, n); err != nil {
		t.Fatal(err)
	}
	return n
}

func (c *cluster) wait(t *testing.T) {
	t.Helper()
	select {
	case <-c.patched:
	case <-time.After(10 * time.Second):
		t.Fatal("the node was not updated")
	}
}

// The scheduler goes by these labels: they must be there when VMs can run, and gone when they cannot.
func TestNodeLife(t *testing.T) {
	c := newCluster(map[string]string{
		v1.CPUModelLabel + "Old": "true", "kubernetes.io/hostname": "node01", v1.NodeSchedulable: "true",
	})
	a := NewAgent("node01", c, c, func() map[string]string { return map[string]string{v1.CPUModelLabel + "Penryn": "true"} }, logr.Discard())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Start(ctx) }()
	a.Registered()
	c.wait(t)
	n := c.node(t)
	if n.Labels[v1.NodeSchedulable] != "true" || n.Labels[v1.CPUModelLabel+"Penryn"] != "true" || n.Labels["kubernetes.io/hostname"] != "node01" {
		t.Errorf("labels %v", n.Labels)
	}
	if _, ok := n.Labels[v1.CPUModelLabel+"Old"]; ok {
		t.Error("a model that the node no longer has is still offered")
	}
	if _, err := time.Parse(time.RFC3339, n.Annotations[v1.VirtHandlerHeartbeat]); err != nil {
		t.Errorf("heartbeat: %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := c.node(t); n.Labels[v1.NodeSchedulable] != "false" {
		t.Errorf("after the agent's end: %v", n.Labels)
	}
}
