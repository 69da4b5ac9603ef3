//go:build integration

package controller

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/libvirt/layout"
	"virtctl/internal/server/controller/launcherpod"
)

func (cl *cluster) startNode() {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Annotations: map[string]string{
		v1.VirtHandlerHeartbeat: time.Now().Format(time.RFC3339),
	}}}
	if err := cl.c.Create(context.Background(), node); err != nil {
		cl.t.Fatal(err)
	}
	c, err := client.NewWithWatch(cl.as("node"), client.Options{Scheme: cl.c.Scheme()})
	if err != nil {
		cl.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	pods, err := c.Watch(ctx, &corev1.PodList{})
	if err != nil {
		cl.t.Fatal(err)
	}
	// Several at once, as on a node, but one pod's events in their order.
	var workers [8]chan *corev1.Pod
	for i := range workers {
		workers[i] = make(chan *corev1.Pod, 1024)
		cl.node.Go(func() {
			for pod := range workers[i] {
				cl.play(ctx, c, pod)
			}
		})
	}
	cl.node.Go(func() {
		for e := range pods.ResultChan() {
			if pod, ok := e.Object.(*corev1.Pod); ok && e.Type != watch.Deleted && !cl.quiet {
				workers[pod.UID[0]%8] <- pod
			}
		}
		for _, w := range workers {
			close(w)
		}
	})
	vmis, err := c.Watch(ctx, &v1.VirtualMachineInstanceList{})
	if err != nil {
		cl.t.Fatal(err)
	}
	cl.node.Go(func() {
		for e := range vmis.ResultChan() {
			if vmi, ok := e.Object.(*v1.VirtualMachineInstance); ok && e.Type == watch.Modified && vmi.DeletionTimestamp != nil {
				cl.guestEnds(ctx, c, vmi)
			}
		}
	})
	cl.t.Cleanup(func() { cancel(); cl.node.Wait() })
}

func (cl *cluster) guestEnds(ctx context.Context, c client.Client, vmi *v1.VirtualMachineInstance) {
	pod := &corev1.Pod{}
	if err := c.Get(ctx, client.ObjectKey{Namespace: vmi.Namespace, Name: launcherpod.Name(vmi)}, pod); err != nil || pod.Status.Phase == corev1.PodSucceeded {
		return
	}
	patch := client.StrategicMergeFrom(pod.DeepCopy())
	pod.Status.Phase = corev1.PodSucceeded
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: layout.ComputeContainer, State: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{Reason: "Completed", FinishedAt: metav1.Now()},
	}}}
	_ = c.Status().Patch(ctx, pod, patch)
}

func (cl *cluster) play(ctx context.Context, c client.Client, pod *corev1.Pod) {
	gate := corev1.ConditionUnknown
	for _, cond := range pod.Status.Conditions {
		if cond.Type == v1.VirtualMachineUnpaused {
			gate = cond.Status
		}
	}
	switch {
	case pod.DeletionTimestamp != nil:
		_ = c.Delete(ctx, pod, client.GracePeriodSeconds(0))
	case pod.Spec.NodeName == "":
		_ = c.SubResource("binding").Create(ctx, pod, &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: "n1"}})
	case pod.Status.Phase == corev1.PodSucceeded:
	case pod.Status.Phase != corev1.PodRunning:
		patch := client.StrategicMergeFrom(pod.DeepCopy())
		pod.Status.Phase = corev1.PodRunning
		pod.Status.Conditions = append(pod.Status.Conditions,
			corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionTrue},
			corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "ReadinessGatesNotReady"})
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: layout.ComputeContainer, Ready: true, State: corev1.ContainerState{
			Running: &corev1.ContainerStateRunning{},
		}}}
		if c.Status().Patch(ctx, pod, patch) == nil {
			cl.guestRuns(ctx, c, pod)
		}
	case gate == corev1.ConditionTrue:
		patch := client.StrategicMergeFrom(pod.DeepCopy())
		for i := range pod.Status.Conditions {
			if pod.Status.Conditions[i].Type == corev1.PodReady {
				pod.Status.Conditions[i].Status, pod.Status.Conditions[i].Reason = corev1.ConditionTrue, ""
			}
		}
		_ = c.Status().Patch(ctx, pod, patch)
	}
}

func (cl *cluster) guestRuns(ctx context.Context, c client.Client, pod *corev1.Pod) {
	owner := metav1.GetControllerOf(pod)
	patch := fmt.Sprintf(`{"metadata":{"uid":%q,"labels":{"kubevirt.io/nodeName":"n1"}},"status":{"phase":"Running","nodeName":"n1","activePods":{%q:"n1"}}}`,
		owner.UID, pod.UID)
	vmi := &v1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: owner.Name}}
	if err := c.Patch(ctx, vmi, client.RawPatch(types.MergePatchType, []byte(patch))); client.IgnoreNotFound(err) != nil {
		cl.t.Error(err)
	}
}
