package storageprofile

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
)

// mebibyte is what sizes of disks are rounded to, and the smallest disk.
const mebibyte = 1 << 20

// Storage is the storage that a claim will have.
type Storage struct {
	// Class is empty when the cluster has no default.
	Class string
	Sets  []cdi.ClaimPropertySet
	// Overhead is the part of a file system that is not for the disk image, "0.06".
	Overhead string
	// Minimum is the smallest volume the storage makes, or empty.
	Minimum string
}

// Errors of claims that cannot be completed.
var (
	ErrNoClass   = errors.New("DataVolume.storage spec is missing accessMode and no storageClass to choose profile; name a storage class or make one the default")
	ErrNoSize    = errors.New("PVC Spec is not valid - missing storage size")
	ErrTooSmall  = errors.New("PVC Spec is not valid - storage size should be at least 1MiB")
	ErrArchive   = errors.New("ContentType Archive cannot have block volumeMode")
	ErrUnsuited  = errors.New("the storage class cannot hold disks")
	ErrDisagrees = errors.New("no pair of the StorageProfile agrees with what the claim asks for")
)

// Modes fills in the class and the access and volume modes that a claim leaves open.
func Modes(spec *corev1.PersistentVolumeClaimSpec, content cdi.DataVolumeContentType, s Storage) error {
	if spec.VolumeMode != nil && (*spec.VolumeMode == "" || *spec.VolumeMode == cdi.PersistentVolumeFromStorageProfile) {
		spec.VolumeMode = nil
	}
	if content == cdi.DataVolumeArchive {
		if spec.VolumeMode != nil && *spec.VolumeMode == corev1.PersistentVolumeBlock {
			return ErrArchive
		}
		file := corev1.PersistentVolumeFilesystem
		spec.VolumeMode = &file
	}
	if s.Class == "" {
		if len(spec.AccessModes) == 0 {
			return ErrNoClass
		}
		return nil
	}
	spec.StorageClassName = &s.Class
	if spec.VolumeMode != nil && len(spec.AccessModes) > 0 {
		return nil
	}
	if len(s.Sets) == 0 {
		return fmt.Errorf("StorageProfile %s: %w", s.Class, ErrUnsuited)
	}
	set, ok := Choose(s.Sets, spec.AccessModes, spec.VolumeMode)
	switch {
	case ok:
		if len(spec.AccessModes) == 0 {
			spec.AccessModes = slices.Clone(set.AccessModes)
		}
		if spec.VolumeMode == nil {
			mode := *set.VolumeMode
			spec.VolumeMode = &mode
		}
	case len(spec.AccessModes) > 0:
		// The user knows better about access; Filesystem is what an open volume mode means.
		file := corev1.PersistentVolumeFilesystem
		spec.VolumeMode = &file
	default:
		return fmt.Errorf("StorageProfile %s, volumeMode %s: %w; give accessModes or set spec.claimPropertySets of the profile", s.Class, *spec.VolumeMode, ErrDisagrees)
	}
	return nil
}

// Size makes the claim large enough for a disk of the size it asks for.
func Size(spec *corev1.PersistentVolumeClaimSpec, s Storage) error {
	size, given := spec.Resources.Requests[corev1.ResourceStorage]
	if !given || size.IsZero() {
		return ErrNoSize
	}
	if size.Value() < mebibyte {
		return ErrTooSmall
	}
	if spec.VolumeMode == nil || *spec.VolumeMode == corev1.PersistentVolumeFilesystem {
		bytes, err := Required(size.Value(), s.Overhead)
		if err != nil {
			return err
		}
		if bytes != size.Value() {
			size = *resource.NewQuantity(bytes, resource.BinarySI)
		}
	}
	if s.Minimum != "" {
		if least, err := resource.ParseQuantity(s.Minimum); err == nil && size.Cmp(least) < 0 {
			size = least
		}
	}
	if spec.Resources.Requests == nil {
		spec.Resources.Requests = corev1.ResourceList{}
	}
	spec.Resources.Requests[corev1.ResourceStorage] = size
	return nil
}

// Required is how large a file system must be for a disk of this many bytes.
func Required(size int64, overhead string) (int64, error) {
	o, err := strconv.ParseFloat(overhead, 64)
	if err != nil || o < 0 || o >= 1 {
		return 0, fmt.Errorf("file system overhead %q must be between 0 and 1; mend it in CDIConfig", overhead)
	}
	aligned := (size + mebibyte - 1) / mebibyte * mebibyte
	if o == 0 {
		return aligned, nil
	}
	return int64(math.Ceil(float64(aligned) * (1 + o))), nil
}
