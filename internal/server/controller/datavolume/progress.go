package datavolume

import (
	"context"
	"errors"
	"fmt"
	"slices"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/server/controller/vm"
)

// Progress tells a VMI whether the claim behind a DataVolume may be used.
func (w *Watcher) Progress(ctx context.Context, namespace, name string) (ready bool, why string, err error) {
	present, err := w.present(ctx)
	if err != nil {
		return false, "", err
	}
	if !present {
		return true, "", nil // only the claim counts
	}
	dv, err := w.get(ctx, namespace, name)
	if err != nil || dv == nil {
		// CDI may remove a DataVolume that is done; the claim stays.
		return dv == nil && err == nil, "", err
	}
	p := progressOf(dv)
	return p.Ready, p.Why, nil
}

// Ensure makes what is missing of a VM's DataVolumes and tells how far they are.
func (w *Watcher) Ensure(ctx context.Context, machine *v1.VirtualMachine) (vm.Progress, error) {
	if !uses(machine) {
		return vm.Progress{Ready: true}, nil
	}
	present, err := w.present(ctx)
	if err != nil {
		return vm.Progress{}, err
	}
	if len(machine.Spec.DataVolumeTemplates) > 0 && !present {
		return vm.Progress{Failed: true, Why: "this cluster has no DataVolumes; install CDI or remove spec.dataVolumeTemplates"}, nil
	}
	total := vm.Progress{Ready: true}
	for i := range machine.Spec.DataVolumeTemplates {
		template := &machine.Spec.DataVolumeTemplates[i]
		dv, err := w.get(ctx, machine.Namespace, template.Name)
		if err != nil {
			return total, err
		}
		if dv == nil {
			if later(machine) {
				continue
			}
			if dv, err = w.create(ctx, machine, template); err != nil {
				return vm.Progress{Failed: true, Why: err.Error()}, err
			}
		}
		total = worse(total, progressOf(dv))
	}
	if !present || machine.Spec.Template == nil {
		return total, nil
	}
	return w.others(ctx, machine, total)
}

// uses tells whether a VM has to do with DataVolumes at all.
func uses(machine *v1.VirtualMachine) bool {
	if len(machine.Spec.DataVolumeTemplates) > 0 {
		return true
	}
	return machine.Spec.Template != nil && slices.ContainsFunc(machine.Spec.Template.Spec.Volumes, func(v v1.Volume) bool { return v.DataVolume != nil })
}

// others adds the DataVolumes that the VM uses and somebody else made. Whether they are ready is the VMI's matter, that they fail is news
// for the VM too.
func (w *Watcher) others(ctx context.Context, machine *v1.VirtualMachine, total vm.Progress) (vm.Progress, error) {
	for i := range machine.Spec.Template.Spec.Volumes {
		source := machine.Spec.Template.Spec.Volumes[i].DataVolume
		if source == nil {
			continue
		}
		dv, err := w.get(ctx, machine.Namespace, source.Name)
		if err != nil {
			return total, err
		}
		if dv == nil {
			continue
		}
		if p := progressOf(dv); p.Failed {
			total = worse(total, p)
		}
	}
	return total, nil
}

// later tells that the DataVolumes are only wanted when the VM starts.
func later(machine *v1.VirtualMachine) bool {
	strategy, err := machine.RunStrategy()
	return err == nil && strategy == v1.RunStrategyHalted && machine.Annotations[v1.ImmediateDataVolumeCreation] == "false"
}

func (w *Watcher) get(ctx context.Context, namespace, name string) (*cdi.DataVolume, error) {
	dv := &cdi.DataVolume{}
	err := w.client.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, dv)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read DataVolume %s/%s: %w", namespace, name, err)
	}
	return dv, nil
}

// create makes a DataVolume. We may read every namespace, the VM's author may not: a source elsewhere is used only if the VM's
// service account could.
func (w *Watcher) create(ctx context.Context, machine *v1.VirtualMachine, template *v1.DataVolumeTemplateSpec) (*cdi.DataVolume, error) {
	dv := &cdi.DataVolume{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: machine.Namespace, Name: template.Name, Labels: map[string]string{}, Annotations: template.Annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(machine, v1.VirtualMachineGroupVersionKind)},
		},
		Spec: *template.Spec.DeepCopy(),
	}
	for key, value := range template.Labels {
		dv.Labels[key] = value
	}
	dv.Labels[v1.CreatedByLabel] = string(machine.UID)
	account := "default"
	for i := range machine.Spec.Template.Spec.Volumes {
		if sa := machine.Spec.Template.Spec.Volumes[i].ServiceAccount; sa != nil {
			account = sa.ServiceAccountName
		}
	}
	answer, err := dv.AuthorizeSA(machine.Namespace, dv.Name, authority{ctx, w}, machine.Namespace, account)
	if err != nil && !errors.Is(err, cdi.ErrNoTokenOkay) {
		return nil, fmt.Errorf("may DataVolume %s use its source: %w", dv.Name, err)
	}
	if !answer.Allowed {
		return nil, fmt.Errorf("DataVolume %s may not use its source: %s; let service account %s/%s create datavolumes/source there",
			dv.Name, answer.Reason, machine.Namespace, account)
	}
	if err := w.client.Create(ctx, dv); err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("create DataVolume %s: %w", dv.Name, err)
	}
	return dv, nil
}

// reasonError is the reason of the condition Running of a DataVolume whose pod failed.
const reasonError = "Error"

// progressOf reads a DataVolume's phase.
func progressOf(dv *cdi.DataVolume) vm.Progress {
	why := fmt.Sprintf("DataVolume %s is in phase %q", dv.Name, dv.Status.Phase)
	if dv.Status.Progress != "" {
		why += ", " + string(dv.Status.Progress)
	}
	switch dv.Status.Phase {
	case cdi.Succeeded:
		return vm.Progress{Ready: true}
	case cdi.Failed:
		return vm.Progress{Failed: true, Why: why}
	case cdi.WaitForFirstConsumer, cdi.PendingPopulation:
		return vm.Progress{WaitsForConsumer: true, Why: why}
	}
	if c := stumbled(dv); c != nil {
		return vm.Progress{Failed: true, Why: fmt.Sprintf("DataVolume %s: %s", dv.Name, c.Message)}
	}
	return vm.Progress{Why: why}
}

// stumbled is the condition that says that the last attempt to fill the disk failed (contract). There will be another one.
func stumbled(dv *cdi.DataVolume) *cdi.DataVolumeCondition {
	for i := range dv.Status.Conditions {
		if c := &dv.Status.Conditions[i]; c.Type == cdi.DataVolumeRunning && c.Status == corev1.ConditionFalse && c.Reason == reasonError {
			return c
		}
	}
	return nil
}

// worse joins two: the least advanced counts.
func worse(a, b vm.Progress) vm.Progress {
	rank := func(p vm.Progress) int {
		switch {
		case p.Failed:
			return 0
		case p.Ready:
			return 3
		case p.WaitsForConsumer:
			return 2
		}
		return 1
	}
	if rank(b) < rank(a) {
		return b
	}
	return a
}

// authority answers CDI's questions about who may read a source.
type authority struct {
	ctx context.Context
	w   *Watcher
}

func (a authority) CreateSar(review *authorizationv1.SubjectAccessReview) (*authorizationv1.SubjectAccessReview, error) {
	return review, a.w.client.Create(a.ctx, review)
}

func (a authority) GetNamespace(name string) (*corev1.Namespace, error) {
	namespace := &corev1.Namespace{}
	return namespace, a.w.live.Get(a.ctx, client.ObjectKey{Name: name}, namespace)
}

func (a authority) GetDataSource(namespace, name string) (*cdi.DataSource, error) {
	found := &cdi.DataSource{}
	return found, a.w.live.Get(a.ctx, client.ObjectKey{Namespace: namespace, Name: name}, found)
}
