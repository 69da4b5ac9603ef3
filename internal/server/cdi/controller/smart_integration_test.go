//go:build integration

package controller

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
	"virtctl/internal/server/cdi/controller/snapshot"
)

// onArray is a bound claim on storage that can clone and make snapshots.
func (cl *cluster) onArray(namespace, name string) {
	cl.t.Helper()
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	c.Spec.StorageClassName = text("array")
	c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("64Mi")}
	cl.create(c)
	cl.bind(namespace, name)
}

func (cl *cluster) strategy(way cdi.CDICloneStrategy) {
	cl.t.Helper()
	p := await(cl, &cdi.StorageProfileList{}, "", "array", "profile", func(p *cdi.StorageProfile) bool {
		return p.Status.SnapshotClass != nil && *p.Status.SnapshotClass == "array-snapshots"
	})
	before := p.DeepCopy()
	p.Spec.CloneStrategy = &way
	if err := cl.c.Patch(context.Background(), p, client.MergeFrom(before)); err != nil {
		cl.t.Fatal(err)
	}
	await(cl, &cdi.StorageProfileList{}, "", "array", "strategy", func(p *cdi.StorageProfile) bool {
		return p.Status.CloneStrategy != nil && *p.Status.CloneStrategy == way
	})
}

func arrayVolume(cl *cluster, name, source string) *cdi.DataVolume {
	dv := volume("lab", name, &cdi.DataVolumeSource{PVC: &cdi.DataVolumeSourcePVC{Namespace: source, Name: "disk"}})
	dv.Spec.Storage.StorageClassName = text("array")
	dv.Annotations = map[string]string{names.AnnCloneToken: cl.permit(source, "disk", "lab", name)}
	return dv
}

// A disk of the same namespace is cloned by the storage itself, and grows to what was asked for.
func csiCloneLife(cl *cluster) {
	cl.onArray("lab", "disk")
	cl.strategy(cdi.CloneStrategyCsiClone)
	dv := arrayVolume(cl, "quick", "lab")
	dv.Spec.Storage.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("128Mi")
	cl.create(dv)
	cl.awaitPhase("lab", "quick", cdi.CSICloneInProgress)
	c := cl.claim("lab", "quick")
	size := c.Spec.Resources.Requests[corev1.ResourceStorage]
	if c.Spec.DataSource == nil || c.Spec.DataSource.Name != "disk" || size.String() != "64Mi" {
		cl.t.Errorf("claim %+v", c.Spec)
	}
	cl.bind("lab", "quick")
	cl.awaitPhase("lab", "quick", cdi.ExpansionInProgress)
	await(cl, &corev1.PersistentVolumeClaimList{}, "lab", "quick", "growth", func(c *corev1.PersistentVolumeClaim) bool {
		size := c.Spec.Resources.Requests[corev1.ResourceStorage]
		return size.Value() > 128<<20
	})
	cl.bind("lab", "quick")
	cl.awaitPhase("lab", "quick", cdi.Succeeded)
}

// A clone that the storage keeps refusing is told of, and then copied.
func refusedCloneLife(cl *cluster) {
	dv := arrayVolume(cl, "refused", "lab")
	dv.Spec.Storage.Resources = corev1.VolumeResourceRequirements{}
	cl.create(dv)
	cl.awaitPhase("lab", "refused", cdi.CSICloneInProgress)
	first := cl.claim("lab", "refused")
	said := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "lab", Name: "refused.1"}, Reason: "ProvisioningFailed", Message: "no clones left", Count: 1}
	said.InvolvedObject = corev1.ObjectReference{Kind: "PersistentVolumeClaim", Namespace: "lab", Name: "refused", UID: first.UID}
	cl.create(said)
	await(cl, &cdi.DataVolumeList{}, "lab", "refused", "reason", func(dv *cdi.DataVolume) bool {
		return slices.ContainsFunc(dv.Status.Conditions, func(c cdi.DataVolumeCondition) bool { return strings.Contains(c.Message, "no clones left") })
	})
	before := said.DeepCopy()
	said.Count = 5
	if err := cl.c.Patch(context.Background(), said, client.MergeFrom(before)); err != nil {
		cl.t.Fatal(err)
	}
	gone := await(cl, &corev1.PersistentVolumeClaimList{}, "lab", "refused", "removal", func(c *corev1.PersistentVolumeClaim) bool {
		return c.UID == first.UID && c.DeletionTimestamp != nil
	})
	// Nobody uses it, and the controller that would say so is not here.
	held := gone.DeepCopy()
	gone.Finalizers = nil
	if err := cl.c.Patch(context.Background(), gone, client.MergeFrom(held)); err != nil {
		cl.t.Fatal(err)
	}
	await(cl, &corev1.PersistentVolumeClaimList{}, "lab", "refused", "copy", func(c *corev1.PersistentVolumeClaim) bool {
		why := c.Annotations[names.AnnCloneFallback]
		return c.UID != first.UID && c.Annotations[names.AnnCloneType] == "copy" && c.Spec.DataSource == nil && strings.Contains(why, "no clones left")
	})
}

// A disk of another namespace comes by a snapshot and a volume that changes hands; nothing of that stays.
func snapshotCloneLife(cl *cluster) {
	cl.onArray("golden", "disk")
	cl.strategy(cdi.CloneStrategySnapshot)
	dv := arrayVolume(cl, "fork", "golden")
	dv.Spec.Storage.Resources = corev1.VolumeResourceRequirements{}
	cl.create(dv)
	cl.awaitPhase("lab", "fork", cdi.SnapshotForSmartCloneInProgress)
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(snapshot.New().GroupVersionKind().GroupVersion().WithKind("VolumeSnapshotList"))
	s := await(cl, list, "golden", "tmp-snapshot-"+string(dv.UID), "existence", func(*unstructured.Unstructured) bool { return true })
	before := s.DeepCopy()
	s.Object["status"] = map[string]any{"readyToUse": true, "restoreSize": "64Mi"}
	if err := cl.c.Status().Patch(context.Background(), s, client.MergeFrom(before)); err != nil {
		cl.t.Fatal(err)
	}
	temp := "tmp-pvc-" + string(dv.UID)
	cl.awaitPhase("lab", "fork", cdi.SmartClonePVCInProgress)
	t := cl.claim("golden", temp)
	if t.Spec.DataSource == nil || t.Spec.DataSource.Kind != snapshot.Kind {
		cl.t.Errorf("claim %+v", t.Spec)
	}
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-" + string(t.UID)}}
	pv.Spec.AccessModes, pv.Spec.StorageClassName, pv.Spec.Capacity = t.Spec.AccessModes, "array", t.Spec.Resources.Requests
	pv.Spec.HostPath = &corev1.HostPathVolumeSource{Path: "/nowhere"}
	pv.Spec.ClaimRef = &corev1.ObjectReference{Kind: "PersistentVolumeClaim", Namespace: "golden", Name: temp, UID: t.UID}
	cl.create(pv)
	cl.bind("golden", temp)
	target := cl.claim("lab", "fork")
	if target.Spec.VolumeName != pv.Name {
		cl.t.Errorf("claim %+v", target.Spec)
	}
	await(cl, &corev1.PersistentVolumeList{}, "", pv.Name, "change of hands", func(v *corev1.PersistentVolume) bool { return v.Spec.ClaimRef.UID == target.UID })
	bound := target.DeepCopy()
	bound.Status.Phase, bound.Status.Capacity = corev1.ClaimBound, target.Spec.Resources.Requests
	if err := cl.c.Status().Patch(context.Background(), bound, client.MergeFrom(target)); err != nil {
		cl.t.Fatal(err)
	}
	cl.awaitPhase("lab", "fork", cdi.Succeeded)
	await(cl, &corev1.PersistentVolumeClaimList{}, "golden", temp, "removal", func(c *corev1.PersistentVolumeClaim) bool { return c.DeletionTimestamp != nil })
	cl.awaitGone(list, s)
	await(cl, &cdi.DataVolumeList{}, "lab", "fork", "release", func(dv *cdi.DataVolume) bool { return len(dv.Finalizers) == 0 })
}
