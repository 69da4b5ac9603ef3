package vm

import (
	"context"
	"fmt"

	v1 "kubevirt.io/api/core/v1"
)

// topologyAnnotations say where a guest has its PCI devices (contract).
func topologyAnnotations() []string {
	return []string{v1.PciTopologyVersionAnnotation, v1.PciInterfaceSlotCountAnnotation}
}

// keepTopology writes into the template where the running guest has its PCI devices: a VM older than these annotations would find them
// elsewhere after a later start, should the default change.
func (r *Reconciler) keepTopology(ctx context.Context, p *pass) error {
	if p.vmi == nil || p.vmi.Status.Phase != v1.Running || p.vmi.DeletionTimestamp != nil || p.vm.Spec.Template == nil {
		return nil
	}
	changed := p.before.DeepCopy()
	meta := &changed.Spec.Template.ObjectMeta
	missing := false
	for _, key := range topologyAnnotations() {
		value, has := p.vmi.Annotations[key]
		if _, known := meta.Annotations[key]; !has || known {
			continue
		}
		if meta.Annotations == nil {
			meta.Annotations = map[string]string{}
		}
		meta.Annotations[key], missing = value, true
	}
	if !missing {
		return nil
	}
	if _, err := r.writer.Patch(ctx, p.before, changed); err != nil {
		return fmt.Errorf("keep the places of PCI devices in the VM's template: %w", err)
	}
	p.hold = true // the VM's next version brings us back
	return nil
}
