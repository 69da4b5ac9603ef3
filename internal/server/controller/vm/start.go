package vm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/clusterconfig"
)

// Reasons of events and of the condition Failure.
const (
	reasonCreated      = "SuccessfulCreate"
	reasonCreateFailed = "FailedCreate"
	reasonDeleted      = "SuccessfulDelete"
	reasonDeleteFailed = "FailedDelete"
)

// firmwareNamespace makes firmware UUIDs out of names for VMs without one; VMs made before UUIDs were written down keep the
// one they always had (contract).
const firmwareNamespace = "6a1a24a1-4061-4607-8bf4-a3963d0c5895"

// start makes the VMI.
func (r *Reconciler) start(ctx context.Context, p *pass) error {
	switch p.do {
	case flip:
		return r.flip(ctx, p)
	case begin:
	default:
		return nil
	}
	if vmCondition(p.vm, v1.VirtualMachineManualRecoveryRequired).Status == corev1.ConditionTrue {
		p.do = nothing
		return nil
	}
	if p.vm.Spec.DataVolumeTemplates != nil && !p.data.Ready && !p.data.WaitsForConsumer {
		p.do = nothing // the DataVolumes bring us back
		return nil
	}
	vmi, err := r.newVMI(ctx, p.vm)
	if err == nil {
		err = r.recordRevision(ctx, p.vm, vmi)
	}
	if err == nil {
		err = r.createVMI(ctx, p, vmi)
	}
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		p.do = nothing // the VM is about to go as well
	case err != nil:
		r.fail(p, reasonCreateFailed, err)
	}
	return nil
}

func (r *Reconciler) createVMI(ctx context.Context, p *pass, vmi *v1.VirtualMachineInstance) error {
	err := r.Client.Create(ctx, vmi)
	if apierrors.IsAlreadyExists(err) {
		// The cache did not know it yet.
		live, lookup := r.liveVMI(ctx, p.key)
		if lookup != nil || live == nil {
			return errors.Join(lookup, err)
		}
		return r.claimVMI(ctx, p, live, "")
	}
	if err != nil {
		return fmt.Errorf("create the VirtualMachineInstance: %w", err)
	}
	p.vmi = vmi
	r.remember(p.key, func(m *memory) { m.created, m.deleted = vmi.UID, "" })
	r.event(p.vm, corev1.EventTypeNormal, reasonCreated, "Start",
		"Started the virtual machine by creating the new virtual machine instance "+vmi.Name)
	return r.takeRequests(ctx, p)
}

// fail says why the VMI cannot be made; the event comes once for each new reason.
func (r *Reconciler) fail(p *pass, reason string, err error) {
	p.err, p.failure = err, &failure{reason, err.Error()}
	old := vmCondition(p.before, v1.VirtualMachineFailure)
	if old.Message != err.Error() {
		r.event(p.vm, corev1.EventTypeWarning, reason, "Start", "Error creating virtual machine instance: "+err.Error())
	}
}

// flip sets the run strategy to Always. The request stays queued: it carries how to start.
func (r *Reconciler) flip(ctx context.Context, p *pass) error {
	changed := p.before.DeepCopy()
	always, yes := v1.RunStrategyAlways, true
	if changed.Spec.Running != nil {
		changed.Spec.Running = &yes
	} else {
		changed.Spec.RunStrategy = &always
	}
	if _, err := r.writer.Patch(ctx, p.before, changed); err != nil {
		return fmt.Errorf("set the run strategy to Always: %w", err)
	}
	p.hold = true // the VM's next version brings us back
	return nil
}

// newVMI makes the VMI that the VM's template, instance type and preference describe.
func (r *Reconciler) newVMI(ctx context.Context, vm *v1.VirtualMachine) (*v1.VirtualMachineInstance, error) {
	if vm.Spec.Template == nil {
		return nil, errors.New("the VM has no template; set spec.template")
	}
	template := vm.Spec.Template.DeepCopy()
	vmi := &v1.VirtualMachineInstance{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: vm.Namespace, Name: vm.Name, Labels: template.ObjectMeta.Labels,
			Annotations:     map[string]string{},
			Finalizers:      []string{v1.VirtualMachineInstanceFinalizer},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(vm, v1.VirtualMachineGroupVersionKind)},
		},
		Spec: template.Spec,
	}
	maps.Copy(vmi.Annotations, template.ObjectMeta.Annotations)
	if value, ok := vm.Annotations[clusterconfig.EmulationAnnotation]; ok {
		vmi.Annotations[clusterconfig.EmulationAnnotation] = value
	}
	vmi.Annotations[v1.VirtualMachineGenerationAnnotation] = strconv.FormatInt(vm.Generation, 10)
	vmi.Status.VirtualMachineRevisionName = revisionName(vm.UID, vm.Generation)
	setFirmwareUUID(vmi)
	if pausedStart(vm) {
		paused := v1.StartStrategyPaused
		vmi.Spec.StartStrategy = &paused
	}
	if err := r.applyTypes(ctx, vm, vmi); err != nil {
		return nil, err
	}
	return vmi, nil
}

func setFirmwareUUID(vmi *v1.VirtualMachineInstance) {
	if vmi.Spec.Domain.Firmware == nil {
		vmi.Spec.Domain.Firmware = &v1.Firmware{}
	}
	if f := vmi.Spec.Domain.Firmware; f.UUID == "" {
		f.UUID = types.UID(uuid.NewSHA1(uuid.MustParse(firmwareNamespace), []byte(vmi.Name)).String())
	}
}

// stop deletes the VMI.
func (r *Reconciler) stop(ctx context.Context, p *pass) error {
	if p.do != end && p.do != rerun {
		return nil
	}
	return r.deleteVMI(ctx, p)
}

func (r *Reconciler) deleteVMI(ctx context.Context, p *pass) error {
	uid := p.vmi.UID
	err := r.Client.Delete(ctx, p.vmi, client.Preconditions{UID: &uid})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		r.event(p.vm, corev1.EventTypeWarning, reasonDeleteFailed, "Stop", "Error deleting virtual machine instance: "+err.Error())
		return fmt.Errorf("delete the VirtualMachineInstance: %w", err)
	}
	r.remember(p.key, func(m *memory) { m.deleted = uid })
	if err == nil && p.vm.DeletionTimestamp == nil {
		r.event(p.vm, corev1.EventTypeNormal, reasonDeleted, "Stop",
			"Stopped the virtual machine by deleting the virtual machine instance "+p.vmi.Name)
	}
	return nil
}

func (r *Reconciler) event(vm *v1.VirtualMachine, kind, reason, action, note string) {
	if len(note) > 1000 {
		note = note[:1000] + "..."
	}
	r.Recorder.Eventf(vm, nil, kind, reason, action, "%s", note)
}
