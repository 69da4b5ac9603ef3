package datavolume

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
	"virtctl/internal/server/cdi/controller/settings"
)

// own makes sure that the claim of the DataVolume's name is the DataVolume's: its own, or one that it may take over.
func (r *Reconciler) own(ctx context.Context, p *pass) error {
	if p.claim == nil {
		return nil
	}
	if p.claim.DeletionTimestamp != nil {
		p.refuse("ErrResourceMarkedForDeletion", "Resource %q marked for deletion", p.claim.Name)
		p.claim = nil
		return nil // its end brings us back
	}
	populated := p.claim.Annotations[names.AnnPopulatedFor] == p.dv.Name
	if metav1.IsControlledBy(p.claim, p.dv) {
		bound, free := p.claim.Status.Phase == corev1.ClaimBound, p.claim.Spec.VolumeName == ""
		p.done = bound && (populated || external(p)) || !bound && populated && free
		return nil
	}
	if !populated && !r.mayAdopt(p) {
		p.refuse(names.EventErrResourceExists, "Resource %q already exists and is not managed by DataVolume", p.claim.Name)
		p.claim = nil
		return nil
	}
	if owner := metav1.GetControllerOf(p.claim); owner != nil {
		p.refuse(names.EventErrResourceExists, "Resource %q belongs to %s %s", p.claim.Name, owner.Kind, owner.Name)
		p.claim = nil
		return nil
	}
	after := p.claim.DeepCopy()
	after.OwnerReferences = append(after.OwnerReferences, *metav1.NewControllerRef(p.dv, cdi.SchemeGroupVersion.WithKind("DataVolume")))
	if after.Annotations == nil {
		after.Annotations = map[string]string{}
	}
	// What it holds is what the DataVolume stands for: no worker shall touch it.
	after.Annotations[names.AnnPopulatedFor] = p.dv.Name
	if _, err := r.claims.Patch(ctx, p.claim, after); err != nil {
		return fmt.Errorf("take over claim %s/%s: %w", p.claim.Namespace, p.claim.Name, err)
	}
	p.done = true
	return nil
}

// mayAdopt tells whether a claim that others made may become the DataVolume's.
func (r *Reconciler) mayAdopt(p *pass) bool {
	switch p.dv.Annotations[names.AnnAllowClaimAdoption] {
	case "true":
		return true
	case "false":
		return false
	}
	return p.settings.Gate(settings.GateClaimAdoption)
}

// collect deletes a DataVolume that has done its work, where that is wished, and leaves its claim to whoever owned the DataVolume.
func (r *Reconciler) collect(ctx context.Context, p *pass) error {
	if p.dv.Status.Phase != cdi.Succeeded || p.claim == nil || p.dv.Annotations[names.AnnDeleteAfterCompletion] == "false" {
		return nil
	}
	ttl := p.settings.Config.Spec.DataVolumeTTLSeconds
	wished := p.dv.Annotations[names.AnnDeleteAfterCompletion] == "true"
	if !wished && (ttl == nil || *ttl < 0) {
		return nil
	}
	seconds := int32(0)
	if ttl != nil && *ttl > 0 {
		seconds = *ttl
	}
	ready := find(p.dv, cdi.DataVolumeReady)
	if ready == nil || ready.Status != corev1.ConditionTrue {
		return nil
	}
	if left := ready.LastTransitionTime.Sub(r.Now()).Seconds() + float64(seconds); left > 0 {
		p.again = time.Duration(left * float64(time.Second))
		return nil
	}
	after := p.claim.DeepCopy()
	after.OwnerReferences = nil
	for _, owner := range p.claim.OwnerReferences {
		if owner.UID != p.dv.UID {
			after.OwnerReferences = append(after.OwnerReferences, owner)
		}
	}
	after.OwnerReferences = append(after.OwnerReferences, p.dv.OwnerReferences...)
	wrote, err := r.claims.Patch(ctx, p.claim, after)
	if err != nil {
		return fmt.Errorf("free claim %s of its DataVolume: %w", p.claim.Name, err)
	}
	if !wrote && metav1.IsControlledBy(p.claim, p.dv) {
		return errLater // somebody else wrote the claim, and that brings us back
	}
	err = r.Client.Delete(ctx, p.dv, client.Preconditions{UID: &p.dv.UID})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete DataVolume %s: %w", p.dv.Name, err)
	}
	return errLater
}
