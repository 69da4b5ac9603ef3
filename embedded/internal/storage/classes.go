// Package storage gives the cluster persistent volumes of real size: each is a sparse file behind a loop device.
package storage

import (
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Provisioner names of the two classes.
const (
	// ProvisionerLocal makes volumes that belong to one node.
	ProvisionerLocal = "virtctl.io/local"
	// ProvisionerShared makes volumes that every node of the machine sees.
	ProvisionerShared = "virtctl.io/shared"
)

const annotationDefaultClass = "storageclass.kubernetes.io/is-default-class"

// Classes are the storage classes of every cluster.
func Classes() []*storagev1.StorageClass {
	class := func(name, provisioner string, mode storagev1.VolumeBindingMode) *storagev1.StorageClass {
		return &storagev1.StorageClass{
			TypeMeta:             metav1.TypeMeta{APIVersion: storagev1.SchemeGroupVersion.String(), Kind: "StorageClass"},
			ObjectMeta:           metav1.ObjectMeta{Name: name},
			Provisioner:          provisioner,
			ReclaimPolicy:        new(corev1.PersistentVolumeReclaimDelete),
			VolumeBindingMode:    new(mode),
			AllowVolumeExpansion: new(true),
		}
	}
	local := class("local", ProvisionerLocal, storagev1.VolumeBindingWaitForFirstConsumer)
	local.Annotations = map[string]string{annotationDefaultClass: "true"}
	return []*storagev1.StorageClass{local, class("shared", ProvisionerShared, storagev1.VolumeBindingImmediate)}
}
