package storage

import (
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	annotationProvisionedBy = "pv.kubernetes.io/provisioned-by"
	annotationSelectedNode  = "volume.kubernetes.io/selected-node"
	fsType                  = "ext4"
)

// ours tells whether a storage class is one of this package's provisioners.
func ours(class *storagev1.StorageClass) bool {
	return class.Provisioner == ProvisionerLocal || class.Provisioner == ProvisionerShared
}

// VolumeName is the name of a claim's volume.
func VolumeName(claim *corev1.PersistentVolumeClaim) string { return "pvc-" + string(claim.UID) }

// errWait says that the scheduler has to pick a node first.
var errWait = errors.New("waiting for the first pod that uses the claim")

// placement decides which nodes a claim's volume is for: one for local volumes, all for shared ones.
func placement(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, firstNode string) (*corev1.VolumeNodeAffinity, error) {
	if class.Provisioner == ProvisionerShared {
		return affinity(corev1.LabelOSStable, "linux"), nil
	}
	node := claim.Annotations[annotationSelectedNode]
	if node == "" {
		if class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer {
			return nil, errWait
		}
		node = firstNode
	}
	return affinity(corev1.LabelHostname, node), nil
}

func affinity(label, value string) *corev1.VolumeNodeAffinity {
	return &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchExpressions: []corev1.NodeSelectorRequirement{{Key: label, Operator: corev1.NodeSelectorOpIn, Values: []string{value}}},
	}}}}
}

// refuse says what about a claim these volumes cannot do.
func refuse(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) error {
	many := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany, corev1.ReadOnlyMany}
	if class.Provisioner == ProvisionerLocal && slices.ContainsFunc(claim.Spec.AccessModes, func(m corev1.PersistentVolumeAccessMode) bool {
		return slices.Contains(many, m)
	}) {
		return fmt.Errorf("storage class %s has ReadWriteOnce volumes, the claim wants %v: use class shared", class.Name, claim.Spec.AccessModes)
	}
	if claim.Spec.DataSource != nil || claim.Spec.DataSourceRef != nil {
		return fmt.Errorf("storage class %s cannot fill a volume from a data source: fill an empty one", class.Name)
	}
	if claim.Spec.Selector != nil {
		return fmt.Errorf("storage class %s makes volumes, it cannot select them: leave out spec.selector", class.Name)
	}
	return nil
}

func filesystem(mode *corev1.PersistentVolumeMode) bool {
	return mode == nil || *mode == corev1.PersistentVolumeFilesystem
}

// newVolume is the PersistentVolume for a claim.
func newVolume(
	claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, where *corev1.VolumeNodeAffinity, device string, size int64,
) *corev1.PersistentVolume {
	pv := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name: VolumeName(claim), Annotations: map[string]string{annotationProvisionedBy: class.Provisioner},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:         corev1.ResourceList{corev1.ResourceStorage: *resource.NewQuantity(size, resource.BinarySI)},
			AccessModes:      claim.Spec.AccessModes,
			VolumeMode:       claim.Spec.VolumeMode,
			StorageClassName: class.Name,
			MountOptions:     class.MountOptions,
			NodeAffinity:     where,
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
				ResourceVersion: claim.ResourceVersion,
			},
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete,
			PersistentVolumeSource:        corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: device}},
		},
	}
	if class.ReclaimPolicy != nil {
		pv.Spec.PersistentVolumeReclaimPolicy = *class.ReclaimPolicy
	}
	if filesystem(claim.Spec.VolumeMode) {
		pv.Spec.Local.FSType = new(fsType)
	}
	return pv
}
