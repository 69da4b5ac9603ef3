package datavolume

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"virtctl/internal/cdi/names"
)

// annRefused is on a DataVolume whose clone the storage refused to make, and says why: from then on it is copied.
const annRefused = "virtctl.io/clone-refused"

// EventProvisioningFailed is what every provisioner says of a claim whose volume it could not make. Nothing else tells it.
const EventProvisioningFailed = "ProvisioningFailed"

// patience is how often the storage may fail to make a clone before the disk is copied: what ails it for a moment costs no copy.
const patience = 5

// ofRefusal gives the DataVolume of a claim that the storage could not make.
func (r *Reconciler) ofRefusal(ctx context.Context, obj client.Object) []reconcile.Request {
	event, ok := obj.(*corev1.Event)
	if !ok {
		return nil
	}
	key := client.ObjectKey{Namespace: event.InvolvedObject.Namespace, Name: event.InvolvedObject.Name}
	claim := &corev1.PersistentVolumeClaim{}
	if err := r.Client.Get(ctx, key, claim); err != nil || claim.Status.Phase == corev1.ClaimBound {
		return nil
	}
	return madeFor(claim)
}

// refusal is what the storage last said when it could not make a claim's volume, and how often it failed.
func (r *Reconciler) refusal(ctx context.Context, claim *corev1.PersistentVolumeClaim) (message string, times int32, err error) {
	var list corev1.EventList
	if err := r.Client.List(ctx, &list, client.InNamespace(claim.Namespace)); err != nil {
		return "", 0, fmt.Errorf("read what is said of claim %s: %w", claim.Name, err)
	}
	var last *corev1.Event
	for i := range list.Items {
		e := &list.Items[i]
		if e.InvolvedObject.UID != claim.UID {
			continue
		}
		times += max(e.Count, 1)
		if last == nil || last.LastTimestamp.Before(&e.LastTimestamp) {
			last = e
		}
	}
	if last == nil {
		return "", 0, nil
	}
	return last.Message, times, nil
}

// giveUp turns to copying when the storage keeps failing to make a clone. Until then, and where nothing can be copied, it says why there is
// none. It tells whether it turned.
func (r *Reconciler) giveUp(ctx context.Context, p *pass, claim *corev1.PersistentVolumeClaim) (bool, error) {
	message, times, err := r.refusal(ctx, claim)
	if err != nil || times == 0 {
		return false, err
	}
	p.stuck = message
	if times < patience || p.source.claim == nil {
		return false, nil
	}
	after := p.before.DeepCopy()
	if after.Annotations == nil {
		after.Annotations = map[string]string{}
	}
	after.Annotations[annRefused] = message
	delete(after.Annotations, names.AnnCloneType)
	if _, err := r.volumes.Patch(ctx, p.before, after); err != nil {
		return false, fmt.Errorf("note on DataVolume %s that its clone was refused: %w", p.dv.Name, err)
	}
	if err := r.removeTemporary(ctx, p.dv); err != nil {
		return false, err
	}
	if err := r.Client.Delete(ctx, claim, client.Preconditions{UID: &claim.UID}); err != nil && !apierrors.IsNotFound(err) {
		return false, fmt.Errorf("delete claim %s, which the storage cannot make: %w", claim.Name, err)
	}
	return true, nil
}

// refused is the plan for what the storage refused before.
func refused(dv *cdi.DataVolume) (plan, bool) {
	why, is := dv.Annotations[annRefused]
	return copying("CloneRefused", "The storage refuses to make the clone: falling back to host-assisted clone: %s", why), is
}
