package node

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"virtctl/internal/nodelease"
)

type cluster struct {
	client.WithWatch
	// patched gets the kind of everything that is written.
	patched chan string
}

func newCluster(labels map[string]string) *cluster {
	c := &cluster{patched: make(chan string, 10)}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node01", Labels: labels}}
	c.WithWatch = fake.NewClientBuilder().WithObjects(node).WithInterceptorFuncs(interceptor.Funcs{
		Patch: func(ctx context.Context, cl client.WithWatch, obj client.Object, p client.Patch, opts ...client.PatchOption) error {
			err := cl.Patch(ctx, obj, p, opts...)
			if err == nil {
				c.patched <- kind(obj)
			}
			return err
		},
		Create: func(ctx context.Context, cl client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			err := cl.Create(ctx, obj, opts...)
			if err == nil {
				c.patched <- kind(obj)
			}
			return err
		},
	}).Build()
	return c
}

func kind(obj client.Object) string {
	if _, ok := obj.(*corev1.Node); ok {
		return "node"
	}
	return "lease"
}

func (c *cluster) agent() *Agent {
	return NewAgent(Options{
		Name: "node01", Namespace: "kubevirt", Reader: c, Writer: c, Log: logr.Discard(),
		Labels: func() map[string]string { return map[string]string{v1.CPUModelLabel + "Penryn": "true"} },
	})
}

func (c *cluster) lease(t *testing.T) *coordinationv1.Lease {
	t.Helper()
	lease := &coordinationv1.Lease{}
	if err := c.Get(t.Context(), types.NamespacedName{Namespace: "kubevirt", Name: "virt-handler-node01"}, lease); err != nil {
		t.Fatal(err)
	}
	return lease
}

// written are the kinds of what was written since the last call.
func (c *cluster) written() string {
	var all []string
	for {
		select {
		case kind := <-c.patched:
			all = append(all, kind)
		default:
			return strings.Join(all, " ")
		}
	}
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
	deadline := time.After(10 * time.Second)
	for {
		select {
		case kind := <-c.patched:
			if kind == "node" {
				return
			}
		case <-deadline:
			t.Fatal("the node was not updated")
		}
	}
}

// What an idle node costs: every two minutes a lease, and nothing else. A node that virt-controller has closed is opened again.
func TestIdleNodeRenewsItsLeaseOnly(t *testing.T) {
	c := newCluster(nil)
	a := c.agent()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	a.Now = func() time.Time { return now }
	a.Registered()
	beat := func(want string) {
		t.Helper()
		if err := a.beat(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := c.written(); got != want {
			t.Errorf("written: %q, want %q", got, want)
		}
	}
	beat("lease node")
	if lease := c.lease(t); !lease.Spec.RenewTime.Time.Equal(now) || nodelease.Node(lease) != "node01" || len(lease.OwnerReferences) != 1 {
		t.Errorf("lease %+v", lease)
	}
	started := c.node(t).Annotations[v1.VirtHandlerHeartbeat]
	beat("")
	now = now.Add(heartbeat)
	beat("lease")
	if lease := c.lease(t); !lease.Spec.RenewTime.Time.Equal(now) || c.node(t).Annotations[v1.VirtHandlerHeartbeat] != started {
		t.Errorf("lease %+v, node %v", lease.Spec, c.node(t).Annotations)
	}
	closed := c.node(t)
	closed.Labels[v1.NodeSchedulable] = "false"
	if err := c.Update(t.Context(), closed); err != nil {
		t.Fatal(err)
	}
	now = now.Add(heartbeat)
	beat("lease node")
	if n := c.node(t); n.Labels[v1.NodeSchedulable] != "true" || n.Annotations[v1.VirtHandlerHeartbeat] != now.Format(time.RFC3339) {
		t.Errorf("%v %v", n.Labels, n.Annotations)
	}
}

// The scheduler goes by these labels: they must be there when VMs can run, and gone when they cannot.
func TestNodeLife(t *testing.T) {
	c := newCluster(map[string]string{
		v1.CPUModelLabel + "Old": "true", "kubernetes.io/hostname": "node01", v1.NodeSchedulable: "true",
	})
	a := c.agent()
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
