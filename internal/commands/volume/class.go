package volume

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"virtctl/internal/cdi/names"
	"virtctl/internal/client"
)

// DefaultClass is the storage class that disks of virtual machines get when none is named: the default for virtual machines, else the
// cluster's default, else nil.
func DefaultClass(ctx context.Context, c *client.Client) (*storagev1.StorageClass, error) {
	list, err := c.StorageClasses().List(ctx, client.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the storage classes: %w", err)
	}
	return ChooseDefault(list.Items), nil
}

// ChooseDefault picks the default of some classes; of several the newest, as Kubernetes does.
func ChooseDefault(classes []storagev1.StorageClass) *storagev1.StorageClass {
	for _, annotation := range []string{names.AnnDefaultVirtClass, names.AnnDefaultClass} {
		var chosen *storagev1.StorageClass
		for i := range classes {
			if classes[i].Annotations[annotation] == "true" && (chosen == nil || chosen.CreationTimestamp.Before(&classes[i].CreationTimestamp)) {
				chosen = &classes[i]
			}
		}
		if chosen != nil {
			return chosen
		}
	}
	return nil
}

// Modes are how a claim's volume can be used.
type Modes struct {
	Access corev1.PersistentVolumeAccessMode
	Volume corev1.PersistentVolumeMode
}

// Suited picks the modes that a storage class's profile prefers among those asked for; empty wishes are open.
func Suited(ctx context.Context, c *client.Client, class string, wish Modes) Modes {
	result := wish
	profile, err := c.StorageProfiles().Get(ctx, class)
	if err == nil {
		for _, set := range profile.Status.ClaimPropertySets {
			for _, access := range set.AccessModes {
				mode := corev1.PersistentVolumeFilesystem
				if set.VolumeMode != nil {
					mode = *set.VolumeMode
				}
				if (wish.Access == "" || wish.Access == access) && (wish.Volume == "" || wish.Volume == mode) {
					return Modes{access, mode}
				}
			}
		}
	}
	// Every storage can do this.
	if result.Access == "" {
		result.Access = corev1.ReadWriteOnce
	}
	if result.Volume == "" {
		result.Volume = corev1.PersistentVolumeFilesystem
	}
	return result
}
