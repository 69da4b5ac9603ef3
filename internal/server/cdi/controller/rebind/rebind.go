// Package rebind moves volumes from one claim to another.
package rebind

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Volume points a volume that is bound to one claim to another. The first claim is lost then and can be deleted without harm.
func Volume(ctx context.Context, c client.Client, volume *corev1.PersistentVolume, from, to *corev1.PersistentVolumeClaim) error {
	ref := volume.Spec.ClaimRef
	if ref != nil && ref.UID == to.UID {
		return nil
	}
	if ref == nil || ref.UID != from.UID {
		return fmt.Errorf("volume %s is not bound to claim %s/%s any more", volume.Name, from.Namespace, from.Name)
	}
	after := volume.DeepCopy()
	after.Spec.ClaimRef = &corev1.ObjectReference{
		APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: to.Namespace, Name: to.Name, UID: to.UID, ResourceVersion: to.ResourceVersion,
	}
	if err := c.Update(ctx, after); err != nil {
		return fmt.Errorf("give volume %s to claim %s/%s: %w", volume.Name, to.Namespace, to.Name, err)
	}
	return nil
}
