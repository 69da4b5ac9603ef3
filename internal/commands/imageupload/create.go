package imageupload

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"virtctl/internal/cdi/names"
	"virtctl/internal/client"
	"virtctl/internal/commands/volume"
)

// wish is what the command line says about the volume's use.
func (o *Options) wish() volume.Modes {
	wish := volume.Modes{Access: corev1.PersistentVolumeAccessMode(o.AccessMode)}
	switch {
	case o.VolumeMode == "block":
		wish.Volume = corev1.PersistentVolumeBlock
	case o.VolumeMode == "filesystem", o.Archive != "":
		wish.Volume = corev1.PersistentVolumeFilesystem
	}
	return wish
}

// storage leaves to the storage profile what is not asked for. Its size is the disk's: the cluster adds what a file system takes.
func (j *job) storage(size *resource.Quantity) *cdiv1.StorageSpec {
	storage := &cdiv1.StorageSpec{}
	storage.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: *size}
	if class := j.options.StorageClass; class != "" {
		storage.StorageClassName = &class
	}
	wish := j.options.wish()
	if wish.Access != "" {
		storage.AccessModes = []corev1.PersistentVolumeAccessMode{wish.Access}
	}
	if wish.Volume != "" {
		storage.VolumeMode = &wish.Volume
	}
	return storage
}

func (j *job) createDataVolume(ctx context.Context) error {
	need := j.source.info.VirtualSize
	size := j.options.size
	if size == nil {
		size = volume.RoundUp(need)
	}
	if need > 0 && size.Value() < need {
		return j.tooSmall(need, "--size is "+j.options.Size)
	}
	return j.createFilled(ctx, &cdiv1.DataVolumeSource{Upload: &cdiv1.DataVolumeSourceUpload{}}, size)
}

// createFilled makes a data volume.
func (j *job) createFilled(ctx context.Context, from *cdiv1.DataVolumeSource, size *resource.Quantity) error {
	dv := &cdiv1.DataVolume{ObjectMeta: j.meta()}
	dv.Spec.Source, dv.Spec.Storage, dv.Spec.ContentType = from, j.storage(size), cdiv1.DataVolumeContentType(j.contentType())
	if _, err := j.client.DataVolumes(j.namespace).Create(ctx, dv, false); err != nil {
		return err
	}
	j.tell("DataVolume %s/%s created\n", j.namespace, j.options.Name)
	return nil
}

func (j *job) createClaim(ctx context.Context) error {
	class := j.options.StorageClass
	if class == "" {
		found, err := volume.DefaultClass(ctx, j.client)
		if err == nil && found != nil {
			class = found.Name
		}
	}
	modes := volume.Suited(ctx, j.client, class, j.options.wish())
	need := j.source.info.VirtualSize
	if need > 0 && modes.Volume == corev1.PersistentVolumeFilesystem {
		need = volume.WithOverhead(need, volume.Overhead(ctx, j.client, class))
	}
	size := j.options.size
	if size == nil {
		size = volume.RoundUp(need)
	}
	if need > 0 && size.Value() < need {
		return j.tooSmall(need, "--size is "+j.options.Size)
	}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: j.meta()}
	claim.Annotations[names.AnnUploadRequest], claim.Annotations[names.AnnContentType] = "", j.contentType()
	metav1.SetMetaDataLabel(&claim.ObjectMeta, names.LabelApplyStorageProfile, "true")
	claim.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{modes.Access}
	claim.Spec.VolumeMode = &modes.Volume
	claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: *size}
	if j.options.StorageClass != "" {
		claim.Spec.StorageClassName = &j.options.StorageClass
	}
	if _, err := j.client.Claims(j.namespace).Create(ctx, claim, false); err != nil {
		return err
	}
	j.tell("PersistentVolumeClaim %s/%s created\n", j.namespace, j.options.Name)
	return nil
}

// manager owns the fields of what is applied.
const manager = "virtctl"

// dataSource makes the DataSource of the same name point to the disk.
func (j *job) dataSource(ctx context.Context) error {
	meta := j.meta()
	meta.Annotations = nil
	plain := map[string]any{
		"apiVersion": client.DataSource().GroupVersion(), "kind": client.DataSource().Kind,
		"metadata": map[string]any{"name": meta.Name, "namespace": meta.Namespace, "labels": meta.Labels},
		"spec":     map[string]any{"source": map[string]any{"pvc": map[string]any{"namespace": j.namespace, "name": j.options.Name}}},
	}
	sources := j.client.DataSources(j.namespace)
	_, before := sources.Get(ctx, meta.Name)
	if _, err := sources.Apply(ctx, meta.Name, plain, client.ApplyOptions{Manager: manager, Force: true}); err != nil {
		return j.left(fmt.Errorf("make the DataSource: %w", err))
	}
	if before == nil {
		j.tell("Updated an existing DataSource %s/%s\n", j.namespace, meta.Name)
	} else {
		j.tell("Created a new DataSource %s/%s\n", j.namespace, meta.Name)
	}
	return nil
}
