package vm

import (
	"context"
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/server/controller/launcherpod"
)

// revisionLabel finds the revisions of one VM.
const revisionLabel = "virtctl.io/vm-uid"

// revisionName is the name of the ControllerRevision that keeps the spec a VM was started with (contract).
func revisionName(vm types.UID, generation int64) string {
	return fmt.Sprintf("revision-start-vm-%s-%d", vm, generation)
}

// revisionData is what such a ControllerRevision holds.
type revisionData struct {
	Spec v1.VirtualMachineSpec `json:"spec"`
}

// maxStartedFrom bounds the annotation that holds the spec a VMI was started with; a longer one goes into its ControllerRevision at
// once. As long as the VM has not changed since the start, a ControllerRevision would say nothing that the VM itself does not say: it is
// written when that ends.
const maxStartedFrom = 64 << 10

// recordRevision keeps the spec the VM is about to be started with, and drops those of earlier starts.
func (r *Reconciler) recordRevision(ctx context.Context, vm *v1.VirtualMachine, vmi *v1.VirtualMachineInstance) error {
	data, err := json.Marshal(revisionData{Spec: vm.Spec})
	if err != nil {
		return fmt.Errorf("write down the VM's spec: %w", err)
	}
	if len(data) <= maxStartedFrom {
		vmi.Annotations[launcherpod.StartedFrom] = string(data)
	} else if err := r.createRevision(ctx, vm, vm.Generation, data); err != nil {
		return err
	}
	if vm.Status.ObservedGeneration == 0 || vm.Status.ObservedGeneration == vm.Generation {
		return nil // the first start, or again with the same spec
	}
	return r.dropRevisions(ctx, vm, revisionName(vm.UID, vm.Generation))
}

// keepRevision writes down what a VM was started with that has changed since.
func (r *Reconciler) keepRevision(ctx context.Context, p *pass, generation int64) error {
	name, data := revisionName(p.vm.UID, generation), p.vmi.Annotations[launcherpod.StartedFrom]
	if data == "" || r.recall(p.key).kept == name {
		return nil
	}
	if err := r.createRevision(ctx, p.vm, generation, []byte(data)); err != nil {
		return err
	}
	r.remember(p.key, func(m *memory) { m.kept = name })
	return nil
}

func (r *Reconciler) createRevision(ctx context.Context, vm *v1.VirtualMachine, generation int64, data []byte) error {
	name := revisionName(vm.UID, generation)
	err := r.Live.Get(ctx, types.NamespacedName{Namespace: vm.Namespace, Name: name}, &appsv1.ControllerRevision{})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("look for the spec of the last start: %w", err)
	}
	if err == nil {
		return nil
	}
	revision := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: vm.Namespace, Name: name, Labels: map[string]string{revisionLabel: string(vm.UID)},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(vm, v1.VirtualMachineGroupVersionKind)},
		},
		Data: runtime.RawExtension{Raw: data}, Revision: generation,
	}
	// The name holds the generation, and a generation has one spec: what exists is what we would write.
	if err := r.Client.Create(ctx, revision); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("keep the spec of this start: %w", err)
	}
	return nil
}

func (r *Reconciler) dropRevisions(ctx context.Context, vm *v1.VirtualMachine, keep string) error {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("ControllerRevisionList"))
	if err := r.Live.List(ctx, list, client.InNamespace(vm.Namespace), client.MatchingLabels{revisionLabel: string(vm.UID)}); err != nil {
		return fmt.Errorf("list the specs of earlier starts: %w", err)
	}
	for i := range list.Items {
		old := &list.Items[i]
		if old.Name == keep || !metav1.IsControlledBy(old, vm) {
			continue
		}
		revision := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: old.Namespace, Name: old.Name}}
		if err := r.Client.Delete(ctx, revision); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("drop the spec of an earlier start: %w", err)
		}
	}
	return nil
}

// lastStart gives the spec the running VMI was made from, or nil when it is not known.
func (r *Reconciler) lastStart(ctx context.Context, p *pass, name string) (*v1.VirtualMachineSpec, error) {
	if m := r.recall(p.key); m.lastStartName == name {
		return m.lastStart, nil
	}
	raw := []byte(p.vmi.Annotations[launcherpod.StartedFrom])
	if len(raw) == 0 {
		revision := &appsv1.ControllerRevision{}
		if err := r.Live.Get(ctx, types.NamespacedName{Namespace: p.vm.Namespace, Name: name}, revision); err != nil {
			return nil, client.IgnoreNotFound(err)
		}
		raw = revision.Data.Raw
	}
	var data revisionData
	if err := json.Unmarshal(raw, &data); err != nil {
		return nil, nil // not one of ours; without it nothing can be compared
	}
	r.remember(p.key, func(m *memory) { m.lastStart, m.lastStartName = &data.Spec, name })
	return &data.Spec, nil
}

// The revision in a matcher is written by us after the start and means no change.
func sameMatcher(a, b *v1.InstancetypeMatcher) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Name == b.Name && a.Kind == b.Kind
}

func samePreference(a, b *v1.PreferenceMatcher) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Name == b.Name && a.Kind == b.Kind
}
