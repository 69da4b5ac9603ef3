package workerpod

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"virtctl/internal/cdi/names"
)

// ScratchName is the name of a claim's scratch claim.
func ScratchName(claim *corev1.PersistentVolumeClaim) string {
	return names.Resource(claim.Name, names.ScratchSuffix[1:])
}

// Scratch is room for a worker that cannot decode its source in order. The pod owns it: it goes with the pod.
func Scratch(claim *corev1.PersistentVolumeClaim, pod *corev1.Pod, class *string, size resource.Quantity) *corev1.PersistentVolumeClaim {
	mode := corev1.PersistentVolumeFilesystem
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Name: ScratchName(claim), Namespace: claim.Namespace,
			Labels: map[string]string{
				names.LabelApp: names.LabelAppValue, names.LabelManagedBy: names.LeaseController, names.LabelComp: "storage",
				names.LabelFillingUpAlert: names.LabelFillingUpAlertValue,
			},
			Annotations:     map[string]string{names.AnnBackupExclude: "true"},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod"))},
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, VolumeMode: &mode, StorageClassName: class,
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: size}},
		},
	}
}
