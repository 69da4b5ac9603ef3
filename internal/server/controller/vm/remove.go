package vm

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
)

// patience is how long a deleted VM may take before its status says Terminating: most are gone sooner. It is longer than that of
// VMIs, so that one write tells what both have to say.
const patience = 5 * time.Second

// addFinalizer does what admission does, for VMs that were made while it was away.
func (r *Reconciler) addFinalizer(ctx context.Context, p *pass) error {
	if controllerutil.ContainsFinalizer(p.vm, v1.VirtualMachineControllerFinalizer) {
		return nil
	}
	changed := p.before.DeepCopy()
	controllerutil.AddFinalizer(changed, v1.VirtualMachineControllerFinalizer)
	if _, err := r.writer.Patch(ctx, p.before, changed); err != nil {
		return fmt.Errorf("add the finalizer: %w", err)
	}
	if changed.ResourceVersion == p.before.ResourceVersion {
		p.hold = true // somebody was faster
	}
	p.before, p.vm = changed, changed.DeepCopy()
	return nil
}

// remove takes the VMI away and then lets the deleted VM go.
func (r *Reconciler) remove(ctx context.Context, p *pass) error {
	if err := r.findVMI(ctx, p); err != nil {
		return err
	}
	// With --cascade=orphan the VMI stays and belongs to nobody.
	orphan := controllerutil.ContainsFinalizer(p.vm, metav1.FinalizerOrphanDependents)
	if p.vmi == nil || orphan {
		return r.dropFinalizer(ctx, p)
	}
	if !p.going {
		if err := r.deleteVMI(ctx, p); err != nil {
			return err
		}
	}
	if left := patience - r.Now().Sub(p.vm.DeletionTimestamp.Time); left > 0 {
		p.again(left)
		return nil
	}
	if p.before.Status.PrintableStatus == v1.VirtualMachineStatusTerminating {
		return nil // nothing else about it matters any more
	}
	p.going = true
	if err := r.showStatus(ctx, p); err != nil {
		return err
	}
	return r.save(ctx, p)
}

func (r *Reconciler) dropFinalizer(ctx context.Context, p *pass) error {
	changed := p.before.DeepCopy()
	if !controllerutil.RemoveFinalizer(changed, v1.VirtualMachineControllerFinalizer) {
		return nil
	}
	if _, err := r.writer.Patch(ctx, p.before, changed); err != nil {
		return fmt.Errorf("remove the finalizer: %w", err)
	}
	return nil
}
