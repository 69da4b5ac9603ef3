// Package claims tells which of a machine's volumes stand on a PersistentVolumeClaim.
package claims

import (
	v1 "kubevirt.io/api/core/v1"
)

// Of is the PersistentVolumeClaim whose contents the guest changes, or "". A DataVolume's claim has the DataVolume's name.
func Of(source v1.VolumeSource) string {
	switch {
	case source.PersistentVolumeClaim != nil:
		return source.PersistentVolumeClaim.ClaimName
	case source.DataVolume != nil:
		return source.DataVolume.Name
	}
	return ""
}

// Pluggable tells whether a volume comes to a running guest, and goes again.
func Pluggable(source v1.VolumeSource) bool {
	return source.PersistentVolumeClaim != nil && source.PersistentVolumeClaim.Hotpluggable ||
		source.DataVolume != nil && source.DataVolume.Hotpluggable
}
