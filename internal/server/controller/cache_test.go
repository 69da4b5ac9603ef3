package controller

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/libvirt/layout"
)

// The cache must keep what reconcilers read, and drop what makes it big.
func TestSlim(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: "p", UID: "u", ResourceVersion: "1", Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"x": "y"},
		OwnerReferences: []metav1.OwnerReference{{UID: "o"}}, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "m"}},
	}}
	pod.Spec.NodeName = "n"
	pod.Spec.Volumes = []corev1.Volume{{Name: "v"}}
	pod.Spec.Containers = []corev1.Container{{Name: "sidecar"}, {Name: layout.ComputeContainer, Image: "i", Command: []string{"c"}}}
	pod.Status.Phase = corev1.PodRunning
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: layout.ComputeContainer, ImageID: "long", Ready: true}}
	s := slimPod(pod)
	if s.UID != "u" || s.Labels["a"] != "b" || len(s.OwnerReferences) != 1 || s.Spec.NodeName != "n" || s.Spec.Containers[0].Image != "i" ||
		s.Status.Phase != corev1.PodRunning || !s.Status.ContainerStatuses[0].Ready {
		t.Errorf("something is missing: %+v", s)
	}
	if s.Annotations != nil || s.ManagedFields != nil || s.Spec.Volumes != nil || s.Spec.Containers[0].Command != nil || s.Status.ContainerStatuses[0].ImageID != "" {
		t.Errorf("something is kept: %+v", s)
	}

	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: "n", Labels: map[string]string{v1.NodeSchedulable: "true", v1.CPUFeatureLabel + "avx": "true", "zone": "z"},
		Annotations: map[string]string{v1.VirtHandlerHeartbeat: "now", "other": "x"},
	}}
	node.Status.Images = []corev1.ContainerImage{{SizeBytes: 1}}
	if n := slimNode(node); len(n.Labels) != 1 || len(n.Annotations) != 1 || n.Status.Images != nil {
		t.Errorf("node %+v", n)
	}

	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "c", Annotations: map[string]string{
		"cdi.kubevirt.io/storage.preallocation": "true", "kubectl.kubernetes.io/last-applied-configuration": "{}",
	}}}
	claim.Spec.Resources.Requests = corev1.ResourceList{"storage": resource.MustParse("1Gi")}
	if c := slimClaim(claim); len(c.Annotations) != 1 || c.Spec.Resources.Requests.Storage().String() != "1Gi" {
		t.Errorf("claim %+v", c)
	}
}
