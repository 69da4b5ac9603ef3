package vmi

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"virtctl/internal/server/controller/index"
	"virtctl/internal/server/controller/launcherpod"
)

// Reasons in the status of a plugged volume (contract).
const (
	reasonPVCNotReady = "PVCNotReady"
	reasonAttachment  = "SuccessfulCreate"
	reasonDetaching   = "VolumeDetaching"
)

// plugVolumes keeps an attachment pod for every hot-plugged volume, and lets those go that are unplugged. How far a volume is
// stands in its status: up to AttachedToNode and from UnMountedFromPod it is ours to say, between them it is virt-handler's.
func (r *Reconciler) plugVolumes(ctx context.Context, p *pass) error {
	if p.pod == nil || p.pod.Spec.NodeName == "" || p.vmi.IsFinal() || p.vmi.DeletionTimestamp != nil {
		return nil
	}
	plugged := map[string]bool{}
	for i := range p.vmi.Spec.Volumes {
		v := &p.vmi.Spec.Volumes[i]
		if v.MemoryDump == nil && !launcherpod.IsHotplug(v) {
			continue
		}
		plugged[v.Name] = true
		if v.MemoryDump != nil && !r.dumpNamed(p.vmi, v) {
			continue // its status is written first, so that the file has one name
		}
		for j := range p.pods {
			if err := r.hold(ctx, p, &p.pods[j], v); err != nil {
				return err
			}
		}
	}
	for _, s := range slices.Clone(p.vmi.Status.VolumeStatus) {
		if s.HotplugVolume == nil || plugged[s.Name] {
			continue
		}
		if err := r.unplug(ctx, p, s.Name); err != nil {
			return err
		}
	}
	return nil
}

// hold makes the attachment pod of a volume for one launcher pod. While a migration runs its target needs one as well; the status
// tells of the pod the guest runs in.
func (r *Reconciler) hold(ctx context.Context, p *pass, launcher *corev1.Pod, v *v1.Volume) error {
	if launcher.Spec.NodeName == "" || launcherEnded(launcher) || launcher.DeletionTimestamp != nil {
		return nil
	}
	current := launcher.UID == p.pod.UID
	if v.MemoryDump != nil && !current {
		return nil // the memory is the present guest's
	}
	name := launcherpod.ClaimName(v)
	if v.MemoryDump != nil {
		name = v.MemoryDump.ClaimName
	}
	pvc, why, err := r.usable(ctx, p.vmi, v, name)
	if err != nil {
		return err
	}
	if why != "" {
		if current {
			showPlug(p.vmi, v.Name, v1.VolumePending, reasonPVCNotReady, why)
		}
		return nil
	}
	pod, err := r.attachment(ctx, launcher, v.Name)
	if err != nil {
		return err
	}
	if pod != nil && podEnded(pod) && pod.DeletionTimestamp == nil {
		// Evicted, or its claim could not be made ready: the next one is made when this one is gone.
		return r.deleteAttachment(ctx, p.vmi, pod)
	}
	if pod == nil {
		if err := r.attach(ctx, p, launcher, v, pvc); err != nil {
			return err
		}
	}
	if current {
		showAttachment(p.vmi, v.Name, launcher, pod, pvc)
	}
	return nil
}

// usable gives the claim, or why it cannot be used yet.
func (r *Reconciler) usable(ctx context.Context, vmi *v1.VirtualMachineInstance, v *v1.Volume, name string) (*corev1.PersistentVolumeClaim, string, error) {
	if v.DataVolume != nil && r.DataVolumes != nil {
		ready, why, err := r.DataVolumes.Progress(ctx, vmi.Namespace, name)
		if err != nil || !ready {
			return nil, why, err
		}
	}
	pvc, err := r.claim(ctx, vmi.Namespace, name)
	if err != nil {
		return nil, "", err
	}
	if pvc == nil {
		return nil, fmt.Sprintf("PVC %s/%s does not exist, waiting for it to appear", vmi.Namespace, name), nil
	}
	return pvc, "", nil
}

// attachment gives the pod that holds a volume for a launcher pod, nil if there is none.
func (r *Reconciler) attachment(ctx context.Context, launcher *corev1.Pod, volume string) (*corev1.Pod, error) {
	held, err := index.OwnedPods(ctx, r.Client, launcher.Namespace, launcher.UID)
	if err != nil {
		return nil, err
	}
	name := launcherpod.AttachmentName(launcher, volume)
	for i := range held {
		if held[i].Name == name {
			return &held[i], nil
		}
	}
	return nil, nil
}

func (r *Reconciler) attach(ctx context.Context, p *pass, launcher *corev1.Pod, v *v1.Volume, pvc *corev1.PersistentVolumeClaim) error {
	a := launcherpod.Attachment{
		VMI: p.vmi, Config: r.Config.Get(), Image: r.LauncherImage, PullSecrets: r.PullSecrets, Launcher: launcher, Volume: v,
		Claim: launcherpod.Claim{Name: pvc.Name, Block: isBlock(pvc)}, Capacity: imageSize(pvc), Preallocate: pvc.Annotations[annPreallocated] == "true",
	}
	if v.MemoryDump != nil {
		a.File, a.Capacity, a.Preallocate = volumeStatus(p.vmi, v.Name).MemoryDumpVolume.TargetFileName, emptyDump, false
	}
	pod := launcherpod.RenderAttachment(a)
	err := r.Client.Create(ctx, pod)
	switch {
	case apierrors.IsAlreadyExists(err):
		return nil // the cache has not seen it yet; its event brings us back
	case err != nil:
		showPlug(p.vmi, v.Name, v1.VolumePending, reasonCreateFailed, err.Error())
		r.event(p.vmi, corev1.EventTypeWarning, reasonCreateFailed, "AttachVolume", fmt.Sprintf("Attaching volume %s failed: %v", v.Name, err))
		return fmt.Errorf("create the attachment pod of volume %s: %w", v.Name, err)
	}
	r.event(p.vmi, corev1.EventTypeNormal, reasonCreated, "AttachVolume", "Created attachment pod "+pod.Name)
	return nil
}

// imageSize is how large the disk of an empty Filesystem claim becomes: what the claim has, less what the filesystem takes.
func imageSize(pvc *corev1.PersistentVolumeClaim) int64 {
	info := claimInfo(pvc)
	size := info.Capacity[corev1.ResourceStorage]
	bytes := size.Value()
	if info.FilesystemOverhead != nil {
		if share, err := strconv.ParseFloat(string(*info.FilesystemOverhead), 64); err == nil && share > 0 && share < 1 {
			bytes = int64(float64(bytes) * (1 - share))
		}
	}
	const mebibyte = 1 << 20
	return bytes / mebibyte * mebibyte
}

// showAttachment tells how far the volume is on its way to the node.
func showAttachment(vmi *v1.VirtualMachineInstance, volume string, launcher, pod *corev1.Pod, pvc *corev1.PersistentVolumeClaim) {
	name := launcherpod.AttachmentName(launcher, volume)
	switch status := volumeStatus(vmi, volume); {
	case pod != nil && pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp == nil:
		if !handlers(status.Phase) {
			showPlug(vmi, volume, v1.HotplugVolumeAttachedToNode, reasonAttachment, "Created hotplug attachment pod "+name)
		}
		at := volumeStatus(vmi, volume)
		at.HotplugVolume = &v1.HotplugVolumeStatus{AttachPodName: name, AttachPodUID: pod.UID}
	case handlers(status.Phase):
		// The guest keeps the disk while its attachment pod is made anew.
	case pvc.Status.Phase == corev1.ClaimBound:
		showPlug(vmi, volume, v1.VolumeBound, reasonPVCReady, "PVC is in phase Bound")
		volumeStatus(vmi, volume).HotplugVolume.AttachPodName = name
	default:
		showPlug(vmi, volume, v1.VolumePending, reasonPVCNotReady, "PVC is in phase "+string(pvc.Status.Phase))
		volumeStatus(vmi, volume).HotplugVolume.AttachPodName = name
	}
}

const reasonPVCReady = "PVCReady"

func showPlug(vmi *v1.VirtualMachineInstance, volume string, phase v1.VolumePhase, reason, message string) {
	status := volumeStatus(vmi, volume)
	if status.HotplugVolume == nil {
		status.HotplugVolume = &v1.HotplugVolumeStatus{}
	}
	status.Phase, status.Reason, status.Message = phase, reason, message
}

// unplug lets go of a volume that the VMI no longer names: first virt-handler takes it from the guest and from the launcher pod,
// then its attachment pod goes, and then its status.
func (r *Reconciler) unplug(ctx context.Context, p *pass, volume string) error {
	status := volumeStatus(p.vmi, volume)
	switch status.Phase {
	case v1.HotplugVolumeAttachedToNode, v1.HotplugVolumeMounted, v1.VolumeReady, v1.MemoryDumpVolumeInProgress,
		v1.MemoryDumpVolumeCompleted, v1.MemoryDumpVolumeFailed:
		showPlug(p.vmi, volume, v1.HotplugVolumeDetaching, reasonDetaching, "Taking the volume from the guest")
		return nil
	case v1.HotplugVolumeDetaching:
		return nil
	}
	left := false
	for i := range p.pods {
		pod, err := r.attachment(ctx, &p.pods[i], volume)
		if err != nil {
			return err
		}
		if pod == nil {
			continue
		}
		left = true
		if err := r.deleteAttachment(ctx, p.vmi, pod); err != nil {
			return err
		}
	}
	if !left {
		p.vmi.Status.VolumeStatus = slices.DeleteFunc(p.vmi.Status.VolumeStatus, func(s v1.VolumeStatus) bool { return s.Name == volume })
	}
	return nil
}

func (r *Reconciler) deleteAttachment(ctx context.Context, vmi *v1.VirtualMachineInstance, pod *corev1.Pod) error {
	if pod.DeletionTimestamp != nil || !r.firstDelete(client.ObjectKeyFromObject(vmi), pod.UID, 0) {
		return nil
	}
	err := r.Client.Delete(ctx, pod, client.Preconditions{UID: &pod.UID})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		r.undelete(client.ObjectKeyFromObject(vmi), pod.UID)
		return fmt.Errorf("delete the attachment pod %s: %w", pod.Name, err)
	}
	r.event(vmi, corev1.EventTypeNormal, "SuccessfulDelete", "DetachVolume", "Deleted attachment pod "+pod.Name)
	return nil
}

// userOfAttachment is the VMI whose launcher pod an attachment pod belongs to.
func (r *Reconciler) userOfAttachment(ctx context.Context, obj client.Object) []reconcile.Request {
	if obj.GetLabels()[v1.AppLabel] != launcherpod.AttachmentLabel {
		return nil
	}
	owner := metav1.GetControllerOf(obj)
	if owner == nil || owner.Kind != "Pod" {
		return nil
	}
	launcher := &corev1.Pod{}
	if err := r.Client.Get(ctx, types.NamespacedName{Namespace: obj.GetNamespace(), Name: owner.Name}, launcher); err != nil {
		return nil // it has gone, and everything of it goes as well
	}
	vmi := metav1.GetControllerOf(launcher)
	if vmi == nil || vmi.Kind != v1.VirtualMachineInstanceGroupVersionKind.Kind {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: obj.GetNamespace(), Name: vmi.Name}}}
}

// emptyDump is the size of a dump before there is anything in it.
const emptyDump = 4096

// handlers tells that a phase is virt-handler's to leave.
func handlers(phase v1.VolumePhase) bool {
	switch phase {
	case v1.HotplugVolumeMounted, v1.VolumeReady, v1.MemoryDumpVolumeInProgress, v1.MemoryDumpVolumeCompleted, v1.MemoryDumpVolumeFailed:
		return true
	}
	return false
}

// dumpNamed gives a dump its file's name (contract) and tells whether it has been written down.
func (r *Reconciler) dumpNamed(vmi *v1.VirtualMachineInstance, v *v1.Volume) bool {
	status := volumeStatus(vmi, v.Name)
	if status.MemoryDumpVolume != nil {
		return true
	}
	status.MemoryDumpVolume = &v1.DomainMemoryDumpInfo{
		ClaimName:      v.MemoryDump.ClaimName,
		TargetFileName: fmt.Sprintf("%s-%s-%s.memory.dump", vmi.Name, v.Name, r.Now().UTC().Format("20060102-150405")),
	}
	showPlug(vmi, v.Name, v1.VolumePending, reasonPVCNotReady, "")
	return false
}
