// Package index names the ways in which reconcilers look objects up in the cache, so that none of them lists everything.
package index

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
)

// Names of the indexes.
const (
	// Claim finds pods by the names of the claims they use.
	Claim = "spec.claims"
	// CloneSource finds claims and DataVolumes by the claim they are cloned from, as namespace/name.
	CloneSource = "clone.source"
	// SnapshotSource finds DataSources and DataVolumes by the snapshot they are cloned from, as namespace/name.
	SnapshotSource = "snapshot.source"
	// CloneTarget finds clone sources' pods by the UID of the claim they are for.
	CloneTarget = "clone.target"
	// DataSource finds DataVolumes and DataSources by the DataSource they refer to, as namespace/name.
	DataSource = "spec.dataSource"
	// Populator finds claims by the object that says how to fill them, as Kind/namespace/name.
	Populator = "spec.dataSourceRef"
)

// Add defines the indexes. It must be called before the cache starts.
func Add(ctx context.Context, f client.FieldIndexer) error {
	for _, i := range []struct {
		obj  client.Object
		name string
		of   client.IndexerFunc
	}{
		{&corev1.Pod{}, Claim, PodClaims},
		{&corev1.Pod{}, CloneTarget, cloneTarget},
		{&corev1.PersistentVolumeClaim{}, CloneSource, cloneSource},
		{&corev1.PersistentVolumeClaim{}, Populator, populator},
		{&cdi.DataVolume{}, DataSource, dataSource},
		{&cdi.DataVolume{}, CloneSource, volumeSource},
		{&cdi.DataVolume{}, SnapshotSource, snapshotSource},
		{&cdi.DataSource{}, DataSource, dataSource},
		{&cdi.DataSource{}, CloneSource, volumeSource},
		{&cdi.DataSource{}, SnapshotSource, snapshotSource},
	} {
		if err := f.IndexField(ctx, i.obj, i.name, i.of); err != nil {
			return fmt.Errorf("index %T by %s: %w", i.obj, i.name, err)
		}
	}
	return nil
}

// PodClaims gives the names of the claims a pod uses.
func PodClaims(obj client.Object) []string {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil
	}
	var out []string
	for i := range pod.Spec.Volumes {
		if claim := pod.Spec.Volumes[i].PersistentVolumeClaim; claim != nil {
			out = append(out, claim.ClaimName)
		}
	}
	return out
}

func cloneTarget(obj client.Object) []string {
	if uid := obj.GetLabels()[names.LabelCloneSourceUnique]; uid != "" {
		return []string{uid}
	}
	return nil
}

func cloneSource(obj client.Object) []string {
	if source := obj.GetAnnotations()[names.AnnCloneRequest]; source != "" {
		return []string{source}
	}
	return nil
}

// volumeSource gives the claim that a DataVolume or DataSource clones.
func volumeSource(obj client.Object) []string {
	var from *cdi.DataVolumeSourcePVC
	switch o := obj.(type) {
	case *cdi.DataVolume:
		if o.Spec.Source != nil {
			from = o.Spec.Source.PVC
		}
	case *cdi.DataSource:
		from = o.Spec.Source.PVC
	}
	if from == nil {
		return nil
	}
	return []string{orOwn(from.Namespace, obj) + "/" + from.Name}
}

func snapshotSource(obj client.Object) []string {
	var from *cdi.DataVolumeSourceSnapshot
	switch o := obj.(type) {
	case *cdi.DataVolume:
		if o.Spec.Source != nil {
			from = o.Spec.Source.Snapshot
		}
	case *cdi.DataSource:
		from = o.Spec.Source.Snapshot
	}
	if from == nil {
		return nil
	}
	return []string{orOwn(from.Namespace, obj) + "/" + from.Name}
}

func orOwn(namespace string, obj client.Object) string {
	if namespace == "" {
		return obj.GetNamespace()
	}
	return namespace
}

func populator(obj client.Object) []string {
	claim, ok := obj.(*corev1.PersistentVolumeClaim)
	if !ok || claim.Spec.DataSourceRef == nil {
		return nil
	}
	namespace := claim.Namespace
	if other := claim.Annotations[names.AnnDataSourceNs]; other != "" {
		namespace = other
	}
	return []string{claim.Spec.DataSourceRef.Kind + "/" + namespace + "/" + claim.Spec.DataSourceRef.Name}
}

func dataSource(obj client.Object) []string {
	switch o := obj.(type) {
	case *cdi.DataVolume:
		if ref := o.Spec.SourceRef; ref != nil {
			namespace := o.Namespace
			if ref.Namespace != nil && *ref.Namespace != "" {
				namespace = *ref.Namespace
			}
			return []string{namespace + "/" + ref.Name}
		}
	case *cdi.DataSource:
		if ref := o.Spec.Source.DataSource; ref != nil {
			return []string{orOwn(ref.Namespace, obj) + "/" + ref.Name}
		}
	}
	return nil
}

// Users lists the pods that use a claim and have not ended. Readers that mount it read-only may be left out.
func Users(ctx context.Context, c client.Reader, namespace, claim string, writersOnly bool) ([]corev1.Pod, error) {
	var list corev1.PodList
	if err := c.List(ctx, &list, client.InNamespace(namespace), client.MatchingFields{Claim: claim}); err != nil {
		return nil, fmt.Errorf("list the pods that use claim %s/%s: %w", namespace, claim, err)
	}
	var out []corev1.Pod
	for i := range list.Items {
		pod := &list.Items[i]
		if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		if !writersOnly || !onlyReads(pod, claim) {
			out = append(out, *pod)
		}
	}
	return out, nil
}

// onlyReads tells that a pod cannot change the claim.
func onlyReads(pod *corev1.Pod, claim string) bool {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.PersistentVolumeClaim == nil || v.PersistentVolumeClaim.ClaimName != claim || v.PersistentVolumeClaim.ReadOnly {
			continue
		}
		for c := range pod.Spec.Containers {
			for m := range pod.Spec.Containers[c].VolumeMounts {
				if mount := &pod.Spec.Containers[c].VolumeMounts[m]; mount.Name == v.Name && !mount.ReadOnly {
					return false
				}
			}
			for d := range pod.Spec.Containers[c].VolumeDevices {
				if pod.Spec.Containers[c].VolumeDevices[d].Name == v.Name && pod.Labels[names.LabelComponent] != names.ComponentCloneSource {
					return false
				}
			}
		}
	}
	return true
}
