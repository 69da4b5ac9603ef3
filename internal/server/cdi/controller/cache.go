package controller

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
	"virtctl/internal/server/cdi/controller/datavolume"
)

// cacheOptions keeps the cache small. All pods matter, because any may use a claim that is to be read or filled; but of most only
// which claims they use. Pods from the cache must never be written back.
func cacheOptions(namespace string) cache.Options {
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}: {Transform: transform(slimPod)},
			// Of all that is said in a cluster: which volumes could not be made.
			&corev1.Event{}: {Field: fields.Set{"reason": datavolume.EventProvisioningFailed, "involvedObject.kind": "PersistentVolumeClaim"}.AsSelector()},
			// We may read Ingresses of our own namespace only.
			&networkingv1.Ingress{}: {Namespaces: map[string]cache.Config{namespace: {}}},
		},
	}
}

func transform[T client.Object](slim func(T) T) toolscache.TransformFunc {
	return func(obj any) (any, error) {
		if o, ok := obj.(T); ok {
			return slim(o), nil
		}
		return obj, nil
	}
}

// slimPod keeps of a worker what it does, and of all others which claims they use and whether they have ended.
func slimPod(p *corev1.Pod) *corev1.Pod {
	out := &corev1.Pod{TypeMeta: p.TypeMeta, ObjectMeta: metav1.ObjectMeta{
		Namespace: p.Namespace, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion, DeletionTimestamp: p.DeletionTimestamp,
	}}
	out.Status.Phase = p.Status.Phase
	kept := map[string]bool{}
	for i := range p.Spec.Volumes {
		if claim := p.Spec.Volumes[i].PersistentVolumeClaim; claim != nil {
			kept[p.Spec.Volumes[i].Name] = true
			out.Spec.Volumes = append(out.Spec.Volumes, corev1.Volume{
				Name: p.Spec.Volumes[i].Name, VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: claim},
			})
		}
	}
	if len(kept) > 0 {
		for i := range p.Spec.Containers {
			out.Spec.Containers = append(out.Spec.Containers, slimContainer(&p.Spec.Containers[i], kept))
		}
	}
	if p.Labels[names.LabelApp] != names.LabelAppValue {
		return out
	}
	out.ObjectMeta = p.ObjectMeta
	out.ManagedFields = nil
	out.Spec.NodeName = p.Spec.NodeName
	out.Status = corev1.PodStatus{
		Phase: p.Status.Phase, Reason: p.Status.Reason, Message: p.Status.Message, Conditions: p.Status.Conditions,
		PodIP: p.Status.PodIP, ContainerStatuses: p.Status.ContainerStatuses,
	}
	return out
}

func slimContainer(c *corev1.Container, kept map[string]bool) corev1.Container {
	out := corev1.Container{Name: c.Name}
	for _, m := range c.VolumeMounts {
		if kept[m.Name] {
			out.VolumeMounts = append(out.VolumeMounts, corev1.VolumeMount{Name: m.Name, ReadOnly: m.ReadOnly})
		}
	}
	for _, d := range c.VolumeDevices {
		if kept[d.Name] {
			out.VolumeDevices = append(out.VolumeDevices, corev1.VolumeDevice{Name: d.Name})
		}
	}
	return out
}
