package importcron

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
	"virtctl/internal/server/cdi/controller/snapshot"
)

// defaultKeep is how many imports stay when the DataImportCron does not say.
const defaultKeep = 3

// pin names the image by its digest, so that what is imported is what was asked for.
func pin(r *cdi.DataVolumeSourceRegistry, digest, dockerRef string) {
	if dockerRef != "" {
		url := "docker://" + dockerRef
		r.URL, r.ImageStream = &url, nil
		return
	}
	if r.URL == nil || !strings.HasPrefix(*r.URL, "docker://") {
		return
	}
	base, _, _ := strings.Cut(strings.TrimPrefix(*r.URL, "docker://"), "@")
	// A colon after the last slash is a tag's; one before it is a port's.
	if slash, colon := strings.LastIndexByte(base, '/'), strings.LastIndexByte(base, ':'); colon > slash {
		base = base[:colon]
	}
	url := "docker://" + base + "@" + digest
	r.URL = &url
}

func (r *Reconciler) stamp() string { return r.Now().UTC().Format(time.RFC3339Nano) }

// used notes when an import was last the newest: the oldest are collected first.
func (r *Reconciler) used(ctx context.Context, p *pass, name string) error {
	claim := &corev1.PersistentVolumeClaim{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: p.cron.Namespace, Name: name}, claim)
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	after := claim.DeepCopy()
	if after.Annotations == nil {
		after.Annotations = map[string]string{}
	}
	if after.Labels == nil {
		after.Labels = map[string]string{}
	}
	after.Annotations[names.AnnLastUseTime] = r.stamp()
	for key, value := range r.labels(p) {
		after.Labels[key] = value
	}
	if _, err := r.claims.Patch(ctx, claim, after); err != nil {
		return fmt.Errorf("label claim %s: %w", name, err)
	}
	return nil
}

// point keeps the DataSource pointing to the newest whole import.
func (r *Reconciler) point(ctx context.Context, p *pass) error {
	ds := &cdi.DataSource{}
	key := client.ObjectKey{Namespace: p.cron.Namespace, Name: p.cron.Spec.ManagedDataSource}
	err := r.Client.Get(ctx, key, ds)
	if apierrors.IsNotFound(err) {
		made := &cdi.DataSource{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, Labels: r.labels(p)}}
		r.describe(p, made)
		if err := r.Client.Create(ctx, made); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create DataSource %s: %w", key, err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read DataSource %s: %w", key, err)
	}
	if r.sources.Stale(ds) {
		return nil
	}
	if owner := ds.Labels[names.LabelImportCron]; owner != p.cron.Name {
		if owner == "" {
			return nil // somebody took it over, on purpose: their source stays
		}
		other := &cdi.DataImportCron{}
		err := r.Client.Get(ctx, client.ObjectKey{Namespace: key.Namespace, Name: owner}, other)
		if err == nil && other.Spec.ManagedDataSource == key.Name {
			r.Recorder.Eventf(p.cron, corev1.EventTypeWarning, "ErrDataSourceAlreadyManaged", "DataSource %s is already managed by DataImportCron %s", key.Name, owner)
			return nil
		}
	}
	after := ds.DeepCopy()
	if after.Labels == nil {
		after.Labels = map[string]string{}
	}
	for label, value := range r.labels(p) {
		after.Labels[label] = value
	}
	r.describe(p, after)
	if _, err := r.sources.Patch(ctx, ds, after); err != nil {
		return fmt.Errorf("write DataSource %s: %w", key, err)
	}
	return nil
}

// describe says where the image is, and what the DataImportCron's author says about it.
func (r *Reconciler) describe(p *pass, ds *cdi.DataSource) {
	for _, from := range []map[string]string{p.cron.Labels, p.cron.Spec.Template.Labels} {
		for key, value := range from {
			if names.Inherited(key) {
				ds.Labels[key] = value
			}
		}
	}
	switch {
	case p.source != nil:
		ds.Spec.Source = *p.source
	case ds.Spec.Source.PVC == nil && ds.Spec.Source.Snapshot == nil && len(p.cron.Status.CurrentImports) > 0:
		// Nothing is there yet: at least show what will be.
		ds.Spec.Source.PVC = &cdi.DataVolumeSourcePVC{Namespace: p.cron.Namespace, Name: p.cron.Status.CurrentImports[0].DataVolumeName}
	}
}

// kept is one import that is there.
type kept struct {
	obj  client.Object
	used string
}

// collect removes imports beyond those to keep, the longest unused first.
func (r *Reconciler) collect(ctx context.Context, p *pass) error {
	if p.source == nil || p.cron.Spec.GarbageCollect != nil && *p.cron.Spec.GarbageCollect == cdi.DataImportCronGarbageCollectNever {
		return nil
	}
	keep := defaultKeep
	if n := p.cron.Spec.ImportsToKeep; n != nil {
		keep = int(*n)
	}
	all, err := r.imports(ctx, p.cron.Namespace, client.MatchingLabels{names.LabelImportCron: p.cron.Name})
	if err != nil {
		return err
	}
	slices.SortStableFunc(all, func(a, b kept) int { return strings.Compare(b.used, a.used) })
	current := p.cron.Status.CurrentImports[0].DataVolumeName
	// A claim and the snapshot that was made of it are one import.
	found := map[string]bool{}
	var failed error
	for i := range all {
		name := all[i].obj.GetName()
		if !found[name] && len(found) >= max(keep, 1) && name != current {
			failed = errors.Join(failed, r.drop(ctx, all[i].obj))
			continue
		}
		found[name] = true
	}
	return failed
}

// imports lists the claims and snapshots with these labels.
func (r *Reconciler) imports(ctx context.Context, namespace string, labels client.MatchingLabels) ([]kept, error) {
	var claims corev1.PersistentVolumeClaimList
	if err := r.Client.List(ctx, &claims, client.InNamespace(namespace), labels); err != nil {
		return nil, fmt.Errorf("list the imports: %w", err)
	}
	var out []kept
	for i := range claims.Items {
		out = append(out, kept{&claims.Items[i], claims.Items[i].Annotations[names.AnnLastUseTime]})
	}
	if !r.Snapshots.Available() {
		return out, nil
	}
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(schema.GroupVersionKind{Group: snapshot.Group, Version: "v1", Kind: snapshot.Kind + "List"})
	if err := r.Client.List(ctx, list, client.InNamespace(namespace), labels); err != nil {
		return nil, fmt.Errorf("list the snapshots: %w", err)
	}
	for i := range list.Items {
		out = append(out, kept{&list.Items[i], list.Items[i].GetAnnotations()[names.AnnLastUseTime]})
	}
	return out, nil
}

// drop removes an import with its DataVolume.
func (r *Reconciler) drop(ctx context.Context, obj client.Object) error {
	if obj.GetDeletionTimestamp() != nil {
		return nil
	}
	dv := &cdi.DataVolume{ObjectMeta: metav1.ObjectMeta{Namespace: obj.GetNamespace(), Name: obj.GetName()}}
	err := r.Client.Get(ctx, client.ObjectKeyFromObject(dv), dv)
	if err == nil {
		err = r.Client.Delete(ctx, dv)
	}
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete the old import %s: %w", obj.GetName(), err)
	}
	if err := r.Client.Delete(ctx, obj); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete the old import %s: %w", obj.GetName(), err)
	}
	return nil
}

// removed cleans up after a DataImportCron that is gone, if that was its wish.
func (r *Reconciler) removed(ctx context.Context, namespace, name string) error {
	labels := client.MatchingLabels{names.LabelImportCron: name, names.LabelImportCronCleanup: "true"}
	all, err := r.imports(ctx, namespace, labels)
	if err != nil {
		return err
	}
	var failed error
	for i := range all {
		failed = errors.Join(failed, r.drop(ctx, all[i].obj))
	}
	var volumes cdi.DataVolumeList
	var sources cdi.DataSourceList
	failed = errors.Join(failed, r.Client.List(ctx, &volumes, client.InNamespace(namespace), labels), r.Client.List(ctx, &sources, client.InNamespace(namespace), labels))
	for i := range volumes.Items {
		failed = errors.Join(failed, client.IgnoreNotFound(r.Client.Delete(ctx, &volumes.Items[i])))
	}
	for i := range sources.Items {
		failed = errors.Join(failed, client.IgnoreNotFound(r.Client.Delete(ctx, &sources.Items[i])))
	}
	return failed
}

// imageStreamDigest reads what an OpenShift image stream's tag stands for.
func (r *Reconciler) imageStreamDigest(ctx context.Context, p *pass, text string) (string, error) {
	name, tag, _ := strings.Cut(text, ":")
	if tag == "" {
		tag = "latest"
	}
	stream := &unstructured.Unstructured{}
	stream.SetGroupVersionKind(schema.GroupVersionKind{Group: "image.openshift.io", Version: "v1", Kind: "ImageStream"})
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: p.cron.Namespace, Name: name}, stream)
	if meta.IsNoMatchError(err) {
		return "", errors.New("this cluster has no image streams; use the registry's url")
	}
	if err != nil {
		return "", fmt.Errorf("read ImageStream %s/%s: %w", p.cron.Namespace, name, err)
	}
	tags, _, _ := unstructured.NestedSlice(stream.Object, "status", "tags")
	for _, t := range tags {
		entry, ok := t.(map[string]any)
		if !ok || entry["tag"] != tag {
			continue
		}
		items, _ := entry["items"].([]any)
		if len(items) == 0 {
			break
		}
		first, _ := items[0].(map[string]any)
		digest, _ := first["image"].(string)
		ref, _ := first["dockerImageReference"].(string)
		p.cron.Annotations[names.AnnImageStreamDockerRef] = ref
		return digest, nil
	}
	return "", fmt.Errorf("ImageStream %s/%s has no tag %s", p.cron.Namespace, name, tag)
}
