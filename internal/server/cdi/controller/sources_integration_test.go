//go:build integration

package controller

import (
	"context"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
	"virtctl/internal/server/cdi/controller/importcron"
)

// images answers for a registry by what the test says.
type images struct {
	mu     sync.Mutex
	digest string
}

func (r *images) set(digest string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.digest = digest
}

func (r *images) ask(context.Context, importcron.Question) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.digest, nil
}

// finishImport plays kubelet for an import from the pod's appearance to its success.
func (cl *cluster) finishImport(namespace, claim string) {
	cl.t.Helper()
	pod := cl.awaitPod(namespace, names.ImporterPod(claim))
	cl.bind(namespace, claim)
	done := names.MessageImportComplete
	cl.kubelet(pod, corev1.PodSucceeded, ended(0, "Completed", names.TerminationMessage{Message: &done, Labels: map[string]string{names.LabelDefaultInstancetype: "u1.small"}}), 0)
}

// A boot source follows its registry: imported at once, replaced when the image is, old ones collected, the DataSource always usable.
func importCronLife(cl *cluster) {
	ctx := context.Background()
	cl.images.set("sha256:" + strings.Repeat("a", 64))
	keep := int32(1)
	cron := &cdi.DataImportCron{ObjectMeta: metav1.ObjectMeta{Namespace: "golden", Name: "fedora"}}
	cron.Spec.ManagedDataSource, cron.Spec.Schedule, cron.Spec.ImportsToKeep = "fedora", "0 */12 * * *", &keep
	none := cdi.DataImportCronRetainNone
	cron.Spec.RetentionPolicy = &none
	cron.Spec.Template.Spec = volume("", "", &cdi.DataVolumeSource{Registry: &cdi.DataVolumeSourceRegistry{URL: text("docker://quay.io:443/disks/fedora:latest")}}).Spec
	cl.create(cron)
	first := "fedora-" + strings.Repeat("a", 12)
	cl.finishImport("golden", first)
	if c := cl.claim("golden", first); c.Annotations[names.AnnEndpoint] != "docker://quay.io:443/disks/fedora@sha256:"+strings.Repeat("a", 64) {
		cl.t.Errorf("imports %s", c.Annotations[names.AnnEndpoint])
	}
	got := await(cl, &cdi.DataImportCronList{}, "golden", "fedora", "being up to date", func(c *cdi.DataImportCron) bool {
		for _, cond := range c.Status.Conditions {
			if cond.Type == cdi.DataImportCronUpToDate && cond.Status == corev1.ConditionTrue {
				return true
			}
		}
		return false
	})
	if got.Status.LastImportedPVC == nil || got.Status.LastImportedPVC.Name != first || got.Annotations[names.AnnNextCronTime] == "" {
		cl.t.Errorf("%+v %v", got.Status, got.Annotations)
	}
	points := func(name string) func(*cdi.DataSource) bool {
		return func(ds *cdi.DataSource) bool {
			return ds.Status.Source.PVC != nil && ds.Status.Source.PVC.Name == name && len(ds.Status.Conditions) == 1 &&
				ds.Status.Conditions[0].Status == corev1.ConditionTrue && ds.Labels[names.LabelDefaultInstancetype] == "u1.small"
		}
	}
	await(cl, &cdi.DataSourceList{}, "golden", "fedora", "readiness", points(first))

	// A newer image, and the hour has come.
	cl.images.set("sha256:" + strings.Repeat("b", 64))
	before := got.DeepCopy()
	got.Annotations[names.AnnNextCronTime] = time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)
	if err := cl.c.Patch(ctx, got, client.MergeFrom(before)); err != nil {
		cl.t.Fatal(err)
	}
	second := "fedora-" + strings.Repeat("b", 12)
	cl.finishImport("golden", second)
	await(cl, &cdi.DataSourceList{}, "golden", "fedora", "the newer image", points(second))
	cl.awaitGone(&cdi.DataVolumeList{}, &cdi.DataVolume{ObjectMeta: metav1.ObjectMeta{Namespace: "golden", Name: first}})

	// A reference to the DataSource, and one too deep.
	for name, to := range map[string]string{"alias": "fedora", "deep": "alias"} {
		cl.create(&cdi.DataSource{
			ObjectMeta: metav1.ObjectMeta{Namespace: "golden", Name: name},
			Spec:       cdi.DataSourceSpec{Source: cdi.DataSourceSource{DataSource: &cdi.DataSourceRefSourceDataSource{Namespace: "golden", Name: to}}},
		})
	}
	await(cl, &cdi.DataSourceList{}, "golden", "alias", "readiness", points(second))
	await(cl, &cdi.DataSourceList{}, "golden", "deep", "refusal", func(ds *cdi.DataSource) bool {
		return len(ds.Status.Conditions) == 1 && ds.Status.Conditions[0].Reason == "MaxReferenceDepthReached"
	})
	// A DataVolume may refer to the DataSource. Nobody allowed this one to read it.
	dv := volume("lab", "fromref", nil)
	dv.Spec.SourceRef = &cdi.DataVolumeSourceRef{Kind: cdi.DataVolumeDataSource, Namespace: text("golden"), Name: "alias"}
	cl.create(dv)
	c := await(cl, &corev1.PersistentVolumeClaimList{}, "lab", "fromref", "claim", func(c *corev1.PersistentVolumeClaim) bool { return true })
	if c.Annotations[names.AnnCloneRequest] != "golden/"+second || c.Labels[names.LabelDefaultInstancetype] != "u1.small" {
		cl.t.Errorf("claim %v %v", c.Annotations, c.Labels)
	}

	if err := cl.c.Delete(ctx, cron); err != nil {
		cl.t.Fatal(err)
	}
	cl.awaitGone(&cdi.DataSourceList{}, &cdi.DataSource{ObjectMeta: metav1.ObjectMeta{Namespace: "golden", Name: "fedora"}})
	cl.awaitGone(&cdi.DataVolumeList{}, &cdi.DataVolume{ObjectMeta: metav1.ObjectMeta{Namespace: "golden", Name: second}})
}

// A person's own claim that refers to a VolumeImportSource gets the volume of PVC'.
func populatorLife(cl *cluster) {
	ctx := context.Background()
	source := &cdi.VolumeImportSource{ObjectMeta: metav1.ObjectMeta{Namespace: "lab", Name: "image"}}
	source.Spec.Source = &cdi.ImportSourceType{HTTP: &cdi.DataVolumeSourceHTTP{URL: "https://example.com/x.img"}}
	group := cdi.SchemeGroupVersion.Group
	own := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "lab", Name: "mine"}}
	own.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	own.Spec.StorageClassName = text("local")
	own.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("64Mi")}
	own.Spec.DataSourceRef = &corev1.TypedObjectReference{APIGroup: &group, Kind: cdi.VolumeImportSourceRef, Name: "image"}
	cl.create(own)
	cl.create(source) // in any order
	prime := "prime-" + string(own.UID)
	pod := cl.awaitPod("lab", "importer-"+prime)
	cl.bind("lab", prime)
	c := cl.claim("lab", prime)
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: c.Spec.VolumeName}}
	volume.Spec.AccessModes, volume.Spec.StorageClassName = c.Spec.AccessModes, "local"
	volume.Spec.Capacity = c.Spec.Resources.Requests
	volume.Spec.HostPath = &corev1.HostPathVolumeSource{Path: "/nowhere"}
	volume.Spec.ClaimRef = &corev1.ObjectReference{Kind: "PersistentVolumeClaim", Namespace: "lab", Name: prime, UID: c.UID}
	cl.create(volume)
	cl.kubelet(pod, corev1.PodRunning, running(), 0)
	await(cl, &corev1.PersistentVolumeClaimList{}, "lab", "mine", "progress", func(c *corev1.PersistentVolumeClaim) bool {
		return c.Annotations[names.AnnPodPhase] == "Running" && c.Annotations[names.AnnPVCPrime] == prime
	})
	done := names.MessageImportComplete
	cl.kubelet(pod, corev1.PodSucceeded, ended(0, "Completed", names.TerminationMessage{Message: &done}), 0)
	await(cl, &corev1.PersistentVolumeList{}, "", volume.Name, "change of hands", func(v *corev1.PersistentVolume) bool {
		return v.Spec.ClaimRef.UID == own.UID && v.Spec.ClaimRef.Name == "mine"
	})
	cl.bind("lab", "mine")
	await(cl, &corev1.PersistentVolumeClaimList{}, "lab", "mine", "success", func(c *corev1.PersistentVolumeClaim) bool {
		return c.Annotations[names.AnnPodPhase] == "Succeeded"
	})
	// Its protection is the volumes' controller's to lift.
	gone := await(cl, &corev1.PersistentVolumeClaimList{}, "lab", prime, "deletion", func(c *corev1.PersistentVolumeClaim) bool { return c.DeletionTimestamp != nil })
	before := gone.DeepCopy()
	gone.Finalizers = nil
	if err := cl.c.Patch(ctx, gone, client.MergeFrom(before)); err != nil {
		cl.t.Fatal(err)
	}
}

// A namespace at its limit: the DataVolume says so and goes on by itself when there is room.
func quotaLife(cl *cluster) {
	cl.namespace("full", nil)
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "full", Name: "none"}}
	quota.Spec.Hard = corev1.ResourceList{corev1.ResourcePersistentVolumeClaims: resource.MustParse("0")}
	cl.create(quota)
	before := quota.DeepCopy()
	quota.Status.Hard = quota.Spec.Hard
	quota.Status.Used = corev1.ResourceList{corev1.ResourcePersistentVolumeClaims: resource.MustParse("0")}
	if err := cl.c.Status().Patch(context.Background(), quota, client.MergeFrom(before)); err != nil {
		cl.t.Fatal(err)
	}
	cl.create(volume("full", "wide", &cdi.DataVolumeSource{Blank: &cdi.DataVolumeBlankImage{}}))
	await(cl, &cdi.DataVolumeList{}, "full", "wide", "reason", func(dv *cdi.DataVolume) bool {
		for _, c := range dv.Status.Conditions {
			if c.Type == cdi.DataVolumeBound && c.Reason == names.EventErrExceededQuota && dv.Status.Phase == cdi.Pending {
				return true
			}
		}
		return false
	})
	if err := cl.c.Delete(context.Background(), quota); err != nil {
		cl.t.Fatal(err)
	}
	cl.awaitPod("full", "importer-wide")
}

// A DataVolume moves to another namespace with its disk.
func transferLife(cl *cluster) {
	to := "lab"
	cl.create(volume("golden", "moving", &cdi.DataVolumeSource{Blank: &cdi.DataVolumeBlankImage{}}))
	cl.finishImport("golden", "moving")
	cl.awaitPhase("golden", "moving", cdi.Succeeded)
	c := cl.claim("golden", "moving")
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: c.Spec.VolumeName}}
	pv.Spec.AccessModes, pv.Spec.StorageClassName, pv.Spec.Capacity = c.Spec.AccessModes, "local", c.Spec.Resources.Requests
	pv.Spec.HostPath = &corev1.HostPathVolumeSource{Path: "/nowhere"}
	pv.Spec.ClaimRef = &corev1.ObjectReference{Kind: "PersistentVolumeClaim", Namespace: "golden", Name: "moving", UID: c.UID}
	cl.create(pv)
	t := &cdi.ObjectTransfer{ObjectMeta: metav1.ObjectMeta{Name: "move"}}
	t.Spec.Source = cdi.TransferSource{Kind: "DataVolume", Namespace: "golden", Name: "moving"}
	t.Spec.Target = cdi.TransferTarget{Namespace: &to}
	cl.create(t)
	made := cl.claim("lab", "moving")
	await(cl, &corev1.PersistentVolumeList{}, "", pv.Name, "change of hands", func(v *corev1.PersistentVolume) bool { return v.Spec.ClaimRef.UID == made.UID })
	cl.bind("lab", "moving")
	await(cl, &cdi.ObjectTransferList{}, "", "move", "completion", func(t *cdi.ObjectTransfer) bool { return t.Status.Phase == cdi.ObjectTransferComplete })
	cl.awaitPhase("lab", "moving", cdi.Succeeded)
	cl.awaitGone(&cdi.DataVolumeList{}, &cdi.DataVolume{ObjectMeta: metav1.ObjectMeta{Namespace: "golden", Name: "moving"}})
}
