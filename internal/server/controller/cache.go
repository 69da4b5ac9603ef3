package controller

import (
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	toolscache "k8s.io/client-go/tools/cache"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/libvirt/layout"
	"virtctl/internal/nodelease"
	"virtctl/internal/server/controller/launcherpod"
)

// cacheOptions keeps the cache small: only launcher pods and the leases of nodes, and of every object only what some controller reads. Objects from
// the cache must therefore never be written back whole.
func cacheOptions(namespace string) cache.Options {
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}: {
				Label:     ourPods(),
				Transform: transform(slimPod),
			},
			&corev1.Node{}:                  {Transform: transform(slimNode)},
			&corev1.PersistentVolumeClaim{}: {Transform: transform(slimClaim)},
			&coordinationv1.Lease{}: {Namespaces: map[string]cache.Config{
				namespace: {LabelSelector: labels.SelectorFromSet(nodelease.Labels())},
			}},
		},
	}
}

// ourPods are the pods that guests run in and those that hold volumes plugged into them.
func ourPods() labels.Selector {
	s, err := labels.Parse(v1.AppLabel + " in (" + launcherpod.Label + "," + launcherpod.AttachmentLabel + ")")
	if err != nil {
		return labels.Nothing() // the text is ours and its test parses it
	}
	return s
}

func transform[T client.Object](slim func(T) T) toolscache.TransformFunc {
	return func(obj any) (any, error) {
		if o, ok := obj.(T); ok {
			return slim(o), nil
		}
		return obj, nil
	}
}

func slimMeta(m metav1.ObjectMeta) metav1.ObjectMeta {
	m.ManagedFields = nil
	return m
}

// slimPod keeps identity, placement and how the containers fare.
func slimPod(p *corev1.Pod) *corev1.Pod {
	out := &corev1.Pod{TypeMeta: p.TypeMeta, ObjectMeta: slimMeta(p.ObjectMeta)}
	out.Annotations = nil
	out.Spec.NodeName = p.Spec.NodeName
	out.Spec.TerminationGracePeriodSeconds = p.Spec.TerminationGracePeriodSeconds
	for i := range p.Spec.Containers {
		if c := &p.Spec.Containers[i]; c.Name == layout.ComputeContainer {
			out.Spec.Containers = []corev1.Container{{Name: c.Name, Image: c.Image}}
		}
	}
	s := &p.Status
	out.Status = corev1.PodStatus{
		Phase: s.Phase, Reason: s.Reason, Message: s.Message, Conditions: s.Conditions, QOSClass: s.QOSClass, PodIP: s.PodIP,
	}
	for i := range s.ContainerStatuses {
		c := &s.ContainerStatuses[i]
		out.Status.ContainerStatuses = append(out.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, State: c.State, Ready: c.Ready, Started: c.Started, RestartCount: c.RestartCount,
		})
	}
	return out
}

// slimNode keeps our labels and annotations; a node's list of images alone can be longer than everything else.
func slimNode(n *corev1.Node) *corev1.Node {
	out := &corev1.Node{TypeMeta: n.TypeMeta, ObjectMeta: metav1.ObjectMeta{
		Name: n.Name, UID: n.UID, ResourceVersion: n.ResourceVersion, CreationTimestamp: n.CreationTimestamp,
		DeletionTimestamp: n.DeletionTimestamp, Labels: ours(n.Labels), Annotations: ours(n.Annotations),
	}}
	out.Spec.Unschedulable, out.Spec.Taints = n.Spec.Unschedulable, n.Spec.Taints
	return out
}

func ours(all map[string]string) map[string]string {
	var out map[string]string
	for key, value := range all {
		if strings.Contains(key, "kubevirt.io") && !strings.HasPrefix(key, v1.CPUFeatureLabel) && !strings.HasPrefix(key, v1.CPUModelLabel) {
			if out == nil {
				out = map[string]string{}
			}
			out[key] = value
		}
	}
	return out
}

// slimClaim keeps what a VM's status shows of a claim.
func slimClaim(c *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
	out := &corev1.PersistentVolumeClaim{TypeMeta: c.TypeMeta, ObjectMeta: slimMeta(c.ObjectMeta)}
	out.Labels, out.Annotations = nil, nil
	if vmi, ok := c.Labels[launcherpod.StateLabel]; ok {
		out.Labels = map[string]string{launcherpod.StateLabel: vmi}
	}
	for key, value := range c.Annotations {
		if strings.Contains(key, "kubevirt.io") {
			if out.Annotations == nil {
				out.Annotations = map[string]string{}
			}
			out.Annotations[key] = value
		}
	}
	out.Spec = corev1.PersistentVolumeClaimSpec{
		AccessModes: c.Spec.AccessModes, VolumeMode: c.Spec.VolumeMode, Resources: c.Spec.Resources,
		StorageClassName: c.Spec.StorageClassName, VolumeName: c.Spec.VolumeName,
	}
	out.Status = corev1.PersistentVolumeClaimStatus{Phase: c.Status.Phase, Capacity: c.Status.Capacity}
	return out
}
