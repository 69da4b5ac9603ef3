package vmi

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/server/controller/condition"
	"virtctl/internal/server/controller/launcherpod"
)

// Reasons why there is no pod yet.
const (
	reasonNoClaim       = "FailedPvcNotFound"
	reasonNotPopulated  = "DataVolumeNotReady"
	annPreallocated     = "cdi.kubevirt.io/storage.preallocation"
	annFilesystemExtent = "cdi.kubevirt.io/storage.filesystemOverhead"
)

// claims reads the claims the pod will mount. Not ready means that one is missing or not filled yet; the VMI says so, and the
// claim's appearance brings us back.
func (r *Reconciler) claims(ctx context.Context, p *pass) (found map[string]launcherpod.Claim, ready bool, err error) {
	found = map[string]launcherpod.Claim{}
	for i := range p.vmi.Spec.Volumes {
		v := &p.vmi.Spec.Volumes[i]
		name := launcherpod.ClaimName(v)
		if name == "" || launcherpod.IsHotplug(v) {
			continue
		}
		if v.DataVolume != nil && r.DataVolumes != nil {
			ready, why, err := r.DataVolumes.Progress(ctx, p.vmi.Namespace, name)
			if err != nil {
				return nil, false, err
			}
			if !ready {
				condition.Set(p.vmi, v1.VirtualMachineInstanceCondition{
					Type: v1.VirtualMachineInstanceDataVolumesReady, Status: corev1.ConditionFalse,
					Reason: v1.VirtualMachineInstanceReasonNotAllDVsReady, Message: "Not all of the VMI's DVs are ready",
				}, r.Now())
				r.waiting(p, reasonNotPopulated, why)
				return nil, false, nil
			}
		}
		pvc, err := r.claim(ctx, p.vmi.Namespace, name)
		if err != nil {
			return nil, false, err
		}
		if pvc == nil {
			r.waiting(p, reasonNoClaim, fmt.Sprintf("PVC %s/%s of volume %s does not exist, waiting for it to appear",
				p.vmi.Namespace, name, v.Name))
			return nil, false, nil
		}
		found[v.Name] = launcherpod.Claim{Name: name, Block: isBlock(pvc)}
	}
	return found, true, nil
}

// waiting says in the condition what the VMI waits for, and once in an event. A disk that is being filled is nothing to warn of, and
// its progress is not told in events.
func (r *Reconciler) waiting(p *pass, reason, message string) {
	kind, known := corev1.EventTypeWarning, false
	if reason == reasonNotPopulated {
		kind, known = corev1.EventTypeNormal, condition.Reason(p.vmi, v1.VirtualMachineInstanceSynchronized) == reason
	}
	if r.unsynchronized(p, reason, message) && !known {
		r.event(p.vmi, kind, reason, "CreatePod", message)
	}
}

func (r *Reconciler) claim(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error) {
	pvc := &corev1.PersistentVolumeClaim{}
	err := r.Client.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, pvc)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read claim %s/%s: %w", namespace, name, err)
	}
	return pvc, nil
}

func isBlock(pvc *corev1.PersistentVolumeClaim) bool {
	return pvc.Spec.VolumeMode != nil && *pvc.Spec.VolumeMode == corev1.PersistentVolumeBlock
}

// showVolumes lists the volumes in the status, with what virt-handler and migrations need to know about claims. Entries and
// fields that virt-handler wrote stay.
func (r *Reconciler) showVolumes(ctx context.Context, p *pass) error {
	if p.pod == nil || p.vmi.IsFinal() || p.vmi.DeletionTimestamp != nil {
		return nil
	}
	for i := range p.vmi.Spec.Volumes {
		v := &p.vmi.Spec.Volumes[i]
		status := volumeStatus(p.vmi, v.Name)
		name := launcherpod.ClaimName(v)
		if name == "" {
			continue
		}
		pvc, err := r.claim(ctx, p.vmi.Namespace, name)
		if err != nil {
			return err
		}
		if pvc != nil {
			status.PersistentVolumeClaimInfo = claimInfo(pvc)
		}
	}
	if err := r.showState(ctx, p.vmi); err != nil {
		return err
	}
	slices.SortFunc(p.vmi.Status.VolumeStatus, func(a, b v1.VolumeStatus) int { return strings.Compare(a.Name, b.Name) })
	if len(dataVolumes(p.vmi)) > 0 {
		condition.Set(p.vmi, v1.VirtualMachineInstanceCondition{
			Type: v1.VirtualMachineInstanceDataVolumesReady, Status: corev1.ConditionTrue,
			Reason: v1.VirtualMachineInstanceReasonAllDVsReady, Message: "All of the VMI's DVs are bound and ready",
		}, r.Now())
	}
	return nil
}

func dataVolumes(vmi *v1.VirtualMachineInstance) []string {
	var names []string
	for i := range vmi.Spec.Volumes {
		if dv := vmi.Spec.Volumes[i].DataVolume; dv != nil {
			names = append(names, dv.Name)
		}
	}
	return names
}

// volumeStatus finds or adds the status of a volume.
func volumeStatus(vmi *v1.VirtualMachineInstance, name string) *v1.VolumeStatus {
	for i := range vmi.Status.VolumeStatus {
		if vmi.Status.VolumeStatus[i].Name == name {
			return &vmi.Status.VolumeStatus[i]
		}
	}
	vmi.Status.VolumeStatus = append(vmi.Status.VolumeStatus, v1.VolumeStatus{Name: name})
	return &vmi.Status.VolumeStatus[len(vmi.Status.VolumeStatus)-1]
}

func claimInfo(pvc *corev1.PersistentVolumeClaim) *v1.PersistentVolumeClaimInfo {
	info := &v1.PersistentVolumeClaimInfo{
		ClaimName:    pvc.Name,
		AccessModes:  pvc.Spec.AccessModes,
		VolumeMode:   pvc.Spec.VolumeMode,
		Capacity:     pvc.Status.Capacity,
		Requests:     pvc.Spec.Resources.Requests,
		Preallocated: pvc.Annotations[annPreallocated] == "true",
	}
	if len(info.Capacity) == 0 {
		// A claim that binds with its first consumer has no capacity yet; it will have at least what it asks for.
		info.Capacity = pvc.Spec.Resources.Requests
	}
	if share := pvc.Annotations[annFilesystemExtent]; share != "" {
		percent := v1.Percent(share)
		info.FilesystemOverhead = &percent
	}
	return info
}
