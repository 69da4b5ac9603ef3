package datavolume

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
	"virtctl/internal/server/cdi/controller/rebind"
)

// clone follows a claim that the storage fills by itself: until it is bound, as large as it shall be, and nothing else is left.
func (r *Reconciler) clone(ctx context.Context, p *pass) error {
	if p.claim == nil || !p.source.clones() {
		return nil
	}
	if p.claim.Annotations[names.AnnPodPhase] == string(corev1.PodSucceeded) {
		if p.before.Status.Phase == cdi.Succeeded {
			return nil
		}
		return r.removeTemporary(ctx, p.dv)
	}
	if !smart(chosen(p.claim)) {
		return nil
	}
	if p.claim.Status.Phase != corev1.ClaimBound {
		p.now = cdi.CSICloneInProgress
		if chosen(p.claim) == cdi.CloneStrategySnapshot {
			p.now = cdi.SmartClonePVCInProgress
		}
		if p.source.spec != nil && p.source.spec.Snapshot != nil {
			p.now = cdi.CloneFromSnapshotSourceInProgress
		}
		if p.claim.Spec.VolumeName == "" {
			turned, err := r.giveUp(ctx, p, p.claim)
			if turned {
				return errLater
			}
			return err
		}
		return r.handOver(ctx, p)
	}
	grown, err := r.expand(ctx, p)
	if err != nil {
		return err
	}
	if !grown {
		p.now = cdi.ExpansionInProgress
		return nil
	}
	after := p.claim.DeepCopy()
	after.Annotations[names.AnnPodPhase] = string(corev1.PodSucceeded)
	after.Annotations[names.AnnCloneOf] = "true"
	wrote, err := r.claims.Patch(ctx, p.claim, after)
	if err != nil {
		return fmt.Errorf("mark claim %s as filled: %w", p.claim.Name, err)
	}
	if wrote {
		p.claim = after
	}
	return r.removeTemporary(ctx, p.dv)
}

// handOver gives the volume of a temporary claim in the source's namespace to ours.
func (r *Reconciler) handOver(ctx context.Context, p *pass) error {
	namespace, _ := p.source.origin()
	if p.claim.Spec.VolumeName == "" || namespace == "" || namespace == p.dv.Namespace {
		return nil
	}
	p.now = cdi.NamespaceTransferInProgress
	temp := &corev1.PersistentVolumeClaim{}
	key := client.ObjectKey{Namespace: namespace, Name: temporary(names.TempClaimPrefix, p.dv)}
	if err := r.Client.Get(ctx, key, temp); err != nil {
		return client.IgnoreNotFound(err)
	}
	volume := &corev1.PersistentVolume{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: p.claim.Spec.VolumeName}, volume); err != nil {
		if apierrors.IsNotFound(err) {
			return fmt.Errorf("volume %s of the clone is gone", p.claim.Spec.VolumeName)
		}
		return fmt.Errorf("read volume %s: %w", p.claim.Spec.VolumeName, err)
	}
	return rebind.Volume(ctx, r.Client, volume, temp, p.claim)
}

// expand makes the claim as large as the DataVolume wants. A file system grows when it is mounted; that need not be waited for.
func (r *Reconciler) expand(ctx context.Context, p *pass) (bool, error) {
	text := p.claim.Annotations[annExpandTo]
	if text == "" {
		return true, nil
	}
	want, err := resource.ParseQuantity(text)
	if err != nil {
		return true, nil
	}
	if have := p.claim.Status.Capacity[corev1.ResourceStorage]; have.Cmp(want) >= 0 {
		return true, nil
	}
	for _, c := range p.claim.Status.Conditions {
		if c.Type == corev1.PersistentVolumeClaimFileSystemResizePending && c.Status == corev1.ConditionTrue {
			return true, nil
		}
	}
	if asked := p.claim.Spec.Resources.Requests[corev1.ResourceStorage]; asked.Cmp(want) >= 0 {
		return false, nil
	}
	after := p.claim.DeepCopy()
	after.Spec.Resources.Requests[corev1.ResourceStorage] = want
	if _, err := r.claims.Patch(ctx, p.claim, after); err != nil {
		return false, fmt.Errorf("expand claim %s: %w", p.claim.Name, err)
	}
	return false, nil
}

// smartPhase is the phase of clones without pods, while they are under way.
func (p *pass) smartPhase() cdi.DataVolumePhase {
	if p.waits && p.now != "" {
		return cdi.WaitForFirstConsumer
	}
	return p.now
}

// smartEvent announces those phases.
func (p *pass) smartEvent() (kind, reason, message string) {
	namespace, name := p.source.origin()
	from := namespace + "/" + name
	switch p.dv.Status.Phase {
	case cdi.SnapshotForSmartCloneInProgress, cdi.SmartClonePVCInProgress:
		message = "Creating snapshot for smart-clone is in progress (for pvc " + from + ")"
	case cdi.CSICloneInProgress:
		message = "CSI Volume clone in progress (for pvc " + from + ")"
	case cdi.CloneFromSnapshotSourceInProgress:
		message = "Creating PVC from snapshot source is in progress (for snapshot " + from + ")"
	case cdi.ExpansionInProgress:
		message = "Expanding PersistentVolumeClaim for DataVolume " + p.dv.Namespace + "/" + p.dv.Name
	case cdi.NamespaceTransferInProgress:
		message = "Transferring PersistentVolumeClaim for DataVolume " + p.dv.Namespace + "/" + p.dv.Name
	default:
		return "", "", ""
	}
	return corev1.EventTypeNormal, string(p.dv.Status.Phase), message
}
