//go:build integration

package controller

import (
	"context"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/crds"
	"virtctl/internal/install/components"
	"virtctl/internal/server/leading"
	"virtctl/test/controlplane"
)

const launcherImage = "localhost/virtctl/virt-launcher:test"

// cluster is a real API server with etcd, and stand-ins for the scheduler, kubelet and virt-handler of one node.
type cluster struct {
	t     *testing.T
	c     client.WithWatch
	plane *controlplane.ControlPlane
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	plane := controlplane.Start(t, controlplane.Definitions(t, crds.Platform, crds.KubeVirt))
	cl := &cluster{t: t, plane: plane}
	scheme, err := NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	if cl.c, err = client.NewWithWatch(plane.As("test"), client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	cl.namespace("kubevirt", nil)
	cl.namespace("lab", map[string]string{"pod-security.kubernetes.io/enforce": "restricted"})
	for _, obj := range components.Accounts(components.Options{Namespace: "kubevirt"}) {
		if err := cl.c.Create(context.Background(), obj.(client.Object)); err != nil {
			t.Fatal(err)
		}
	}
	cl.startNode()
	return cl
}

func (cl *cluster) namespace(name string, labels map[string]string) {
	cl.t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	if err := cl.c.Create(context.Background(), ns); err != nil {
		cl.t.Fatal(err)
	}
}

// startControllers runs one replica of virt-controller, in its name, with no more rights than an installation gives it, until the returned
// function is called.
func (cl *cluster) startControllers(name string) (stop func()) {
	cl.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	mgr, err := NewManager(ctx, cl.plane.Account("kubevirt", "kubevirt-controller"), Flags{LauncherImage: launcherImage, Namespace: "kubevirt", Replica: &leading.Replica{Lease: component, Namespace: "kubevirt", Name: name}})
	if err != nil {
		cl.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				cl.t.Error(err)
			}
		})
	}
	cl.t.Cleanup(stop)
	return stop
}

// await watches until an object of the list's kind satisfies the condition.
func await[T client.Object](cl *cluster, list client.ObjectList, name string, what string, ok func(T) bool) {
	cl.t.Helper()
	controlplane.Await(cl.t, controlplane.Watching{Client: cl.c, List: list, Namespace: "lab", Name: name}, what, ok)
}

func (cl *cluster) awaitVM(name string, status v1.VirtualMachinePrintableStatus) {
	cl.t.Helper()
	await(cl, &v1.VirtualMachineList{}, name, "status "+string(status), func(vm *v1.VirtualMachine) bool {
		return vm.Status.PrintableStatus == status
	})
}

// awaitGone watches until no VM of the namespace is left.
func (cl *cluster) awaitGone() {
	cl.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w, err := cl.c.Watch(ctx, &v1.VirtualMachineList{}, client.InNamespace("lab"))
	if err != nil {
		cl.t.Fatal(err)
	}
	defer w.Stop()
	var left v1.VirtualMachineList
	for {
		if err := cl.c.List(ctx, &left, client.InNamespace("lab")); err != nil {
			cl.t.Fatal(err)
		}
		if len(left.Items) == 0 {
			return
		}
		// Each removal ends one wait; the list says when it was the last one.
		for e := range w.ResultChan() {
			if e.Type == watch.Deleted {
				break
			}
		}
		if ctx.Err() != nil {
			cl.t.Fatalf("%d VMs stay, the first is %+v", len(left.Items), left.Items[0].ObjectMeta)
		}
	}
}

func (cl *cluster) awaitRenewals(count int) {
	cl.t.Helper()
	controlplane.AwaitRenewals(cl.t, cl.c, "kubevirt", count)
}

func (cl *cluster) writes() []controlplane.Request { return cl.plane.Writes(component) }
