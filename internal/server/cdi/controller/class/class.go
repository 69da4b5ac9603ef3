// Package class finds the storage class a claim will have and what is known of it.
package class

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/storageprofile"
	"virtctl/internal/server/cdi/controller/settings"
)

// Find gives the named class, or the default: that for virtual machines first, then Kubernetes' own. nil means there is none.
// Content that is no disk takes Kubernetes' default.
func Find(ctx context.Context, c client.Reader, name *string, content cdi.DataVolumeContentType) (*storagev1.StorageClass, error) {
	if name != nil {
		if *name == "" {
			return nil, nil
		}
		found := &storagev1.StorageClass{}
		if err := c.Get(ctx, client.ObjectKey{Name: *name}, found); err != nil {
			if apierrors.IsNotFound(err) {
				return nil, nil
			}
			return nil, fmt.Errorf("read storage class %s: %w", *name, err)
		}
		return found, nil
	}
	var list storagev1.StorageClassList
	if err := c.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("list the storage classes: %w", err)
	}
	if content != cdi.DataVolumeArchive {
		if found := Default(list.Items, names.AnnDefaultVirtClass); found != nil {
			return found, nil
		}
	}
	return Default(list.Items, names.AnnDefaultClass), nil
}

// Default gives the class with this annotation: of several the newest, as Kubernetes does it.
func Default(classes []storagev1.StorageClass, annotation string) *storagev1.StorageClass {
	var best *storagev1.StorageClass
	for i := range classes {
		c := &classes[i]
		if c.Annotations[annotation] != "true" || c.DeletionTimestamp != nil {
			continue
		}
		if best == nil || best.CreationTimestamp.Before(&c.CreationTimestamp) ||
			best.CreationTimestamp.Equal(&c.CreationTimestamp) && c.Name < best.Name {
			best = c
		}
	}
	return best
}

// Storage tells what a claim of this class gets. The StorageProfile may not be there yet when the class is new: then the table
// speaks for it.
func Storage(ctx context.Context, c client.Reader, s *settings.Current, found *storagev1.StorageClass) (storageprofile.Storage, error) {
	if found == nil {
		return storageprofile.Storage{Overhead: s.Overhead("")}, nil
	}
	out := storageprofile.Storage{Class: found.Name, Overhead: s.Overhead(found.Name)}
	profile := &cdi.StorageProfile{}
	err := c.Get(ctx, client.ObjectKey{Name: found.Name}, profile)
	if err == nil && profile.Status.Provisioner != nil {
		out.Sets, out.Minimum = profile.Status.ClaimPropertySets, profile.Annotations[names.AnnMinimumSupportedPVCSize]
		return out, nil
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return out, fmt.Errorf("read StorageProfile %s: %w", found.Name, err)
	}
	advice := storageprofile.Advise(found, nil)
	out.Sets, out.Minimum = advice.Sets, advice.Minimum
	if len(profile.Spec.ClaimPropertySets) > 0 {
		out.Sets = profile.Spec.ClaimPropertySets
	}
	return out, nil
}

// NameOf is the class of a claim, or nothing.
func NameOf(claim *corev1.PersistentVolumeClaim) string {
	if claim.Spec.StorageClassName == nil {
		return ""
	}
	return *claim.Spec.StorageClassName
}
