package vmi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/server/controller/launcherpod"
)

// stateSize is what firmware variables and a TPM take, amply.
const stateSize = "10Mi"

// storageProfile says which access modes a storage class has, where CDI is installed.
var storageProfile = schema.GroupVersionKind{Group: "cdi.kubevirt.io", Version: "v1beta1", Kind: "StorageProfile"}

// keepsState tells whether something of the machine outlives its pod.
func keepsState(vmi *v1.VirtualMachineInstance) bool {
	d := &vmi.Spec.Domain
	if t := d.Devices.TPM; t != nil && (t.Enabled == nil || *t.Enabled) && t.Persistent != nil && *t.Persistent {
		return true
	}
	f := d.Firmware
	return f != nil && f.Bootloader != nil && f.Bootloader.EFI != nil && f.Bootloader.EFI.Persistent != nil && *f.Bootloader.EFI.Persistent
}

// stateClaim finds or makes the claim for the VM's lasting state. It belongs to the VM, so that it stays when the VM stops.
func (r *Reconciler) stateClaim(ctx context.Context, vmi *v1.VirtualMachineInstance) (string, error) {
	if !keepsState(vmi) {
		return "", nil
	}
	known, err := r.findStateClaim(ctx, vmi)
	if err != nil || known != nil {
		return nameOf(known), err
	}
	pvc := r.newStateClaim(ctx, vmi)
	// The name follows from the owner: what exists under it already is the one we would make.
	if err := r.Client.Create(ctx, pvc); err != nil && !apierrors.IsAlreadyExists(err) {
		return "", fmt.Errorf("make the claim for the VM's state: %w", err)
	}
	return pvc.Name, nil
}

func nameOf(pvc *corev1.PersistentVolumeClaim) string {
	if pvc == nil {
		return ""
	}
	return pvc.Name
}

// findStateClaim gives the VM's claim; of several the first by name.
func (r *Reconciler) findStateClaim(ctx context.Context, vmi *v1.VirtualMachineInstance) (*corev1.PersistentVolumeClaim, error) {
	list := &corev1.PersistentVolumeClaimList{}
	err := r.Client.List(ctx, list, client.InNamespace(vmi.Namespace), client.MatchingLabels{launcherpod.StateLabel: launcherpod.InstanceID(vmi)})
	if err != nil {
		return nil, fmt.Errorf("look for the claim of the VM's state: %w", err)
	}
	alive := slices.DeleteFunc(list.Items, func(c corev1.PersistentVolumeClaim) bool { return c.DeletionTimestamp != nil })
	if len(alive) == 0 {
		return nil, nil
	}
	first := slices.MinFunc(alive, func(a, b corev1.PersistentVolumeClaim) int { return strings.Compare(a.Name, b.Name) })
	return &first, nil
}

func (r *Reconciler) newStateClaim(ctx context.Context, vmi *v1.VirtualMachineInstance) *corev1.PersistentVolumeClaim {
	owner := metav1.GetControllerOf(vmi)
	if owner == nil {
		owner = metav1.NewControllerRef(vmi, v1.VirtualMachineInstanceGroupVersionKind)
	}
	sum := sha256.Sum256([]byte(owner.UID))
	pvc := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: vmi.Namespace, Name: launcherpod.StateLabel + "-" + vmi.Name + "-" + hex.EncodeToString(sum[:])[:5],
			Labels:          map[string]string{launcherpod.StateLabel: launcherpod.InstanceID(vmi)},
			OwnerReferences: []metav1.OwnerReference{*owner},
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			Resources: corev1.VolumeResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(stateSize)},
			},
		},
	}
	class := r.Config.Get().Storage.VMStateStorageClass
	if class != "" {
		pvc.Spec.StorageClassName = &class
	}
	pvc.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{r.stateAccess(ctx, class)}
	return pvc
}

// stateAccess: who names a class for the VMs' state means one that lets them move; the default class need not be one. Where CDI
// knows the class, its word counts (contract).
func (r *Reconciler) stateAccess(ctx context.Context, class string) corev1.PersistentVolumeAccessMode {
	if class == "" {
		return corev1.ReadWriteOnce
	}
	profile := &unstructured.Unstructured{}
	profile.SetGroupVersionKind(storageProfile)
	if err := r.Live.Get(ctx, types.NamespacedName{Name: class}, profile); err != nil {
		// Without CDI there are no profiles, and without one there is nothing better to go by than the class itself.
		return corev1.ReadWriteMany
	}
	sets, _, _ := unstructured.NestedSlice(profile.Object, "status", "claimPropertySets")
	for _, s := range sets {
		set, _ := s.(map[string]any)
		mode, _, _ := unstructured.NestedString(set, "volumeMode")
		modes, _, _ := unstructured.NestedStringSlice(set, "accessModes")
		if mode == string(corev1.PersistentVolumeFilesystem) && len(modes) > 0 {
			if slices.Contains(modes, string(corev1.ReadWriteMany)) {
				return corev1.ReadWriteMany
			}
			return corev1.PersistentVolumeAccessMode(modes[0])
		}
	}
	return corev1.ReadWriteMany
}

// showState lists the claim among the volumes, as a claim that decides whether the guest can move (contract).
func (r *Reconciler) showState(ctx context.Context, vmi *v1.VirtualMachineInstance) error {
	if !keepsState(vmi) {
		return nil
	}
	pvc, err := r.findStateClaim(ctx, vmi)
	if err != nil || pvc == nil {
		return err
	}
	volumeStatus(vmi, pvc.Name).PersistentVolumeClaimInfo = claimInfo(pvc)
	return nil
}
