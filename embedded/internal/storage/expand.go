package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// mountedRetry is between two tries to grow a file system that is in use; nothing tells when a kubelet unmounts.
const mountedRetry = 5 * time.Second

// expand grows the volume of a claim that asks for more than it has.
func (p *Provisioner) expand(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	pv, err := p.pvs.Get(claim.Spec.VolumeName)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	want := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	have := claim.Status.Capacity[corev1.ResourceStorage]
	if claim.Status.Phase != corev1.ClaimBound || pv.Annotations[annotationProvisionedBy] == "" || want.Cmp(have) <= 0 {
		return nil
	}
	size, err := p.volumes.Grow(pv.Name, want.Value(), filesystem(claim.Spec.VolumeMode))
	if err != nil {
		p.events.Event(claim, corev1.EventTypeWarning, "VolumeResizeFailed", err.Error())
		return err
	}
	capacity := *resource.NewQuantity(size, resource.BinarySI)
	if !filesystem(claim.Spec.VolumeMode) {
		return p.expanded(ctx, claim, pv, capacity)
	}
	if p.onlineGrowth {
		return p.leaveToKubelet(ctx, claim, pv, capacity)
	}
	err = p.volumes.GrowFilesystem(ctx, pv.Name)
	if errors.Is(err, errMounted) {
		p.queue.AddAfter(claimKey+claim.Namespace+"/"+claim.Name, mountedRetry)
		return p.resizeCondition(ctx, claim, corev1.PersistentVolumeClaimResizing, err.Error())
	}
	if err != nil {
		p.events.Event(claim, corev1.EventTypeWarning, "VolumeResizeFailed", err.Error())
		return err
	}
	return p.expanded(ctx, claim, pv, capacity)
}

// setCapacity writes the volume's new size.
func (p *Provisioner) setCapacity(ctx context.Context, pv *corev1.PersistentVolume, size resource.Quantity) error {
	if have := pv.Spec.Capacity[corev1.ResourceStorage]; have.Cmp(size) >= 0 {
		return nil
	}
	pv = pv.DeepCopy()
	pv.Spec.Capacity[corev1.ResourceStorage] = size
	if _, err := p.client.CoreV1().PersistentVolumes().Update(ctx, pv, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("resize %s: %w", pv.Name, err)
	}
	return nil
}

// expanded writes that a claim has its new size.
func (p *Provisioner) expanded(
	ctx context.Context, claim *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume, size resource.Quantity,
) error {
	if err := p.setCapacity(ctx, pv, size); err != nil {
		return err
	}
	claim = claim.DeepCopy()
	claim.Status.Capacity[corev1.ResourceStorage] = size
	claim.Status.Conditions = nil
	delete(claim.Status.AllocatedResourceStatuses, corev1.ResourceStorage)
	p.events.Event(claim, corev1.EventTypeNormal, "VolumeResizeSuccessful", "the volume has "+size.String())
	return p.updateStatus(ctx, claim)
}

// leaveToKubelet tells the kubelet of the node that mounts the volume to grow the file system.
func (p *Provisioner) leaveToKubelet(
	ctx context.Context, claim *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume, size resource.Quantity,
) error {
	if err := p.setCapacity(ctx, pv, size); err != nil {
		return err
	}
	claim = claim.DeepCopy()
	if claim.Status.AllocatedResources == nil {
		claim.Status.AllocatedResources = corev1.ResourceList{}
	}
	if have := claim.Status.AllocatedResources[corev1.ResourceStorage]; have.Cmp(size) >= 0 {
		return nil // told already
	}
	claim.Status.AllocatedResources[corev1.ResourceStorage] = size
	claim.Status.AllocatedResourceStatuses = map[corev1.ResourceName]corev1.ClaimResourceStatus{
		corev1.ResourceStorage: corev1.PersistentVolumeClaimNodeResizePending,
	}
	return p.resizeCondition(ctx, claim, corev1.PersistentVolumeClaimFileSystemResizePending,
		"waiting for a pod that uses the claim: the kubelet grows the file system")
}

// resizeCondition writes why a claim does not have its new size yet.
func (p *Provisioner) resizeCondition(
	ctx context.Context, claim *corev1.PersistentVolumeClaim, kind corev1.PersistentVolumeClaimConditionType, message string,
) error {
	for _, c := range claim.Status.Conditions {
		if c.Type == kind && c.Message == message {
			return nil
		}
	}
	claim = claim.DeepCopy()
	claim.Status.Conditions = []corev1.PersistentVolumeClaimCondition{{
		Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now(), Message: message,
	}}
	return p.updateStatus(ctx, claim)
}

func (p *Provisioner) updateStatus(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	_, err := p.client.CoreV1().PersistentVolumeClaims(claim.Namespace).UpdateStatus(ctx, claim, metav1.UpdateOptions{})
	if err != nil {
		return fmt.Errorf("resize %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	return nil
}
