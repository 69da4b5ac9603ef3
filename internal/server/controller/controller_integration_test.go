//go:build integration

package controller

import (
	"context"
	"fmt"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"virtctl/test/controlplane"
)

func vmObject(name string, strategy v1.VirtualMachineRunStrategy) *v1.VirtualMachine {
	memory := resource.MustParse("128Mi")
	vm := &v1.VirtualMachine{ObjectMeta: metav1.ObjectMeta{
		Namespace: "lab", Name: name, Finalizers: []string{v1.VirtualMachineControllerFinalizer},
	}}
	vm.Spec.RunStrategy = &strategy
	vm.Spec.Template = &v1.VirtualMachineInstanceTemplateSpec{}
	vm.Spec.Template.Spec.Domain.Memory = &v1.Memory{Guest: &memory}
	vm.Spec.Template.Spec.Volumes = []v1.Volume{{Name: "root", VolumeSource: v1.VolumeSource{
		ContainerDisk: &v1.ContainerDiskSource{Image: "localhost/virtctl/demo:test"},
	}}}
	return vm
}

// A VM's life on a real API server, in a namespace that enforces Pod Security restricted, and its cost in writes.
func TestLifeOnAPIServer(t *testing.T) {
	cl := startCluster(t)
	cl.startControllers("virt-controller")
	ctx := context.Background()
	vm := vmObject("web", v1.RunStrategyAlways)
	if err := cl.c.Create(ctx, vm); err != nil {
		t.Fatal(err)
	}
	await(cl, &v1.VirtualMachineList{}, "web", "readiness", func(vm *v1.VirtualMachine) bool {
		return vm.Status.PrintableStatus == v1.VirtualMachineStatusRunning && vm.Status.Ready
	})
	cl.awaitRenewals(2)
	idle := len(cl.writes())
	cl.awaitRenewals(3)
	if writes := cl.writes(); len(writes) != idle {
		t.Errorf("while the VM runs and nothing happens: %+v", writes[idle:])
	}
	if err := cl.c.Delete(ctx, vm); err != nil {
		t.Fatal(err)
	}
	cl.awaitGone()
	var pods corev1.PodList
	var vmis v1.VirtualMachineInstanceList
	for _, list := range []client.ObjectList{&pods, &vmis} {
		if err := cl.c.List(ctx, list, client.InNamespace("lab")); err != nil {
			t.Fatal(err)
		}
	}
	if len(pods.Items)+len(vmis.Items) > 0 {
		t.Errorf("left over: %d pods, %d VMIs", len(pods.Items), len(vmis.Items))
	}
	ours := cl.writes()
	t.Logf("writes of virt-controller, events included:\n%s", controlplane.Summary(ours))
	if len(ours) > 11 { // one more than it takes, for a machine too slow to report Running at once
		t.Errorf("%d writes, want at most 11", len(ours))
	}
	for _, w := range ours {
		if w.Code != "200" && w.Code != "201" {
			t.Errorf("a write came to nothing: %+v", w)
		}
	}
	forbidden := map[controlplane.Request]bool{}
	for _, r := range cl.plane.Requests(component) {
		if r.Code == "403" && !forbidden[r] {
			forbidden[r] = true
			t.Errorf("its ServiceAccount must be allowed to: %+v", r)
		}
	}
}

// Two replicas: one works, the other takes over when it goes, and nothing is made twice.
func TestTwoReplicas(t *testing.T) {
	cl := startCluster(t)
	stop := cl.startControllers("virt-controller-a")
	ctx := context.Background()
	if err := cl.c.Create(ctx, vmObject("first", v1.RunStrategyAlways)); err != nil {
		t.Fatal(err)
	}
	cl.awaitVM("first", v1.VirtualMachineStatusRunning)
	cl.startControllers("virt-controller-b")
	stop()
	if err := cl.c.Create(ctx, vmObject("second", v1.RunStrategyAlways)); err != nil {
		t.Fatal(err)
	}
	cl.awaitVM("second", v1.VirtualMachineStatusRunning)
	// Whoever asks finds the leader's pod by the Lease.
	lease := &coordinationv1.Lease{}
	if err := cl.c.Get(ctx, client.ObjectKey{Namespace: "kubevirt", Name: component}, lease); err != nil || lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity != "virt-controller-b" {
		t.Errorf("the Lease is held by %v: %v", lease.Spec.HolderIdentity, err)
	}
	var pods corev1.PodList
	if err := cl.c.List(ctx, &pods, client.InNamespace("lab")); err != nil || len(pods.Items) != 2 {
		t.Errorf("%d pods, %v", len(pods.Items), err)
	}
}

// Many VMs at once cost no more per VM than one, and nothing is written once they run.
func TestManyVMs(t *testing.T) {
	const count = 100
	cl := startCluster(t)
	cl.startControllers("virt-controller")
	ctx := context.Background()
	begin := time.Now()
	for i := range count {
		if err := cl.c.Create(ctx, vmObject(fmt.Sprintf("vm-%d", i), v1.RunStrategyAlways)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range count {
		cl.awaitVM(fmt.Sprintf("vm-%d", i), v1.VirtualMachineStatusRunning)
	}
	t.Logf("%d VMs run after %s", count, time.Since(begin).Round(time.Millisecond))
	running := len(cl.writes())
	begin = time.Now()
	if err := cl.c.DeleteAllOf(ctx, &v1.VirtualMachine{}, client.InNamespace("lab")); err != nil {
		t.Fatal(err)
	}
	cl.awaitGone()
	t.Logf("gone after %s", time.Since(begin).Round(time.Millisecond))
	all := cl.writes()
	t.Logf("writes of virt-controller, %d until they ran:\n%s", running, controlplane.Summary(all))
	if perVM := float64(len(all)) / count; perVM > 13 {
		t.Errorf("%.1f writes per VM", perVM)
	}
}
