// Package replicaset keeps as many VirtualMachineInstances running as a VirtualMachineInstanceReplicaSet asks for.
package replicaset

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"virtctl/internal/server/controller/condition"
	"virtctl/internal/server/controller/index"
	"virtctl/internal/server/writer"
)

const (
	// burst is how many VMIs are made or deleted in one pass.
	burst = 250
	// Reasons of events and of the condition ReplicaFailure.
	reasonCreated      = "SuccessfulCreate"
	reasonCreateFailed = "FailedCreate"
	reasonDeleted      = "SuccessfulDelete"
	reasonDeleteFailed = "FailedDelete"
)

// Reconciler reconciles VirtualMachineInstanceReplicaSets.
type Reconciler struct {
	Client   client.Client
	Recorder events.EventRecorder
	Now      func() time.Time

	writer *writer.Writer
	ledger *ledger
}

// New gives a Reconciler.
func New(c client.Client, recorder events.EventRecorder) *Reconciler {
	return &Reconciler{Client: c, Recorder: recorder, Now: time.Now, writer: writer.New(c), ledger: newLedger()}
}

// pass is one reconciliation.
type pass struct {
	set    *v1.VirtualMachineInstanceReplicaSet
	before *v1.VirtualMachineInstanceReplicaSet
	// living are the VMIs that count: not ended and not going. ended are to be deleted.
	living, ended []*v1.VirtualMachineInstance
	// short is by how many VMIs there are too few, or, negative, too many.
	short int
}

// Reconcile brings one set forward.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	set := &v1.VirtualMachineInstanceReplicaSet{}
	if err := r.Client.Get(ctx, req.NamespacedName, set); err != nil {
		if apierrors.IsNotFound(err) {
			r.writer.Forget(req.NamespacedName)
			r.ledger.forget(req.NamespacedName)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, err
	}
	if set.DeletionTimestamp != nil || r.writer.Stale(set) {
		return reconcile.Result{}, nil // the garbage collector takes the VMIs
	}
	p := &pass{before: set, set: set.DeepCopy()}
	settled, err := r.look(ctx, p)
	if err != nil || !settled {
		return reconcile.Result{}, err
	}
	var scaled error
	if !set.Spec.Paused {
		scaled = r.scale(ctx, p)
	}
	r.show(p, scaled)
	_, saved := r.writer.PatchStatus(ctx, p.before, p.set)
	return reconcile.Result{}, errors.Join(scaled, saved)
}

// look finds the set's VMIs. It is not settled while the cache has yet to show what we did last.
func (r *Reconciler) look(ctx context.Context, p *pass) (settled bool, err error) {
	if err := r.adopt(ctx, p.set); err != nil {
		return false, err
	}
	var list v1.VirtualMachineInstanceList
	if err := r.Client.List(ctx, &list, client.InNamespace(p.set.Namespace), client.MatchingFields{index.Owner: string(p.set.UID)}); err != nil {
		return false, fmt.Errorf("list the VMIs of %s/%s: %w", p.set.Namespace, p.set.Name, err)
	}
	for i := range list.Items {
		vmi := &list.Items[i]
		switch {
		case vmi.DeletionTimestamp != nil:
		case vmi.IsFinal(), podGoes(vmi):
			p.ended = append(p.ended, vmi)
		default:
			p.living = append(p.living, vmi)
		}
	}
	want := 1
	if p.set.Spec.Replicas != nil {
		want = int(*p.set.Spec.Replicas)
	}
	p.short = want - len(p.living)
	return r.ledger.settled(client.ObjectKeyFromObject(p.set), list.Items), nil
}

// podGoes tells whether the VMI's pod was deleted: its guest may take long to stop, and serves nobody meanwhile.
func podGoes(vmi *v1.VirtualMachineInstance) bool {
	return condition.Reason(vmi, v1.VirtualMachineInstanceReady) == v1.PodTerminatingReason
}

// adopt takes VMIs that the selector matches and that belong to nobody.
func (r *Reconciler) adopt(ctx context.Context, set *v1.VirtualMachineInstanceReplicaSet) error {
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil {
		return reconcile.TerminalError(fmt.Errorf("selector of %s/%s: %w", set.Namespace, set.Name, err))
	}
	if selector.Empty() {
		return nil // it would take everything
	}
	var list v1.VirtualMachineInstanceList
	orphans := client.MatchingFields{index.Owner: index.Nobody}
	if err := r.Client.List(ctx, &list, client.InNamespace(set.Namespace), orphans, client.MatchingLabelsSelector{Selector: selector}); err != nil {
		return fmt.Errorf("list VMIs without owner: %w", err)
	}
	for i := range list.Items {
		vmi := &list.Items[i]
		if vmi.DeletionTimestamp != nil {
			continue
		}
		owned := vmi.DeepCopy()
		owned.OwnerReferences = append(owned.OwnerReferences, *metav1.NewControllerRef(set, v1.VirtualMachineInstanceReplicaSetGroupVersionKind))
		patch := client.MergeFromWithOptions(vmi, client.MergeFromWithOptimisticLock{})
		if err := r.Client.Patch(ctx, owned, patch); err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			return fmt.Errorf("adopt VMI %s/%s: %w", vmi.Namespace, vmi.Name, err)
		}
	}
	return nil
}

// scale deletes what has ended or is too much, and makes what is missing.
func (r *Reconciler) scale(ctx context.Context, p *pass) error {
	key := client.ObjectKeyFromObject(p.set)
	remove := p.ended
	if p.short < 0 {
		remove = append(remove, expendable(p.living, -p.short)...)
	}
	for _, vmi := range remove[:min(len(remove), burst)] {
		uid := vmi.UID
		err := r.Client.Delete(ctx, vmi, client.Preconditions{UID: &uid})
		if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
			r.event(p.set, corev1.EventTypeWarning, reasonDeleteFailed, "Error deleting virtual machine instance "+vmi.Name+": "+err.Error())
			return fmt.Errorf("delete VMI %s: %w", vmi.Name, err)
		}
		r.ledger.deleted(key, uid)
		r.event(p.set, corev1.EventTypeNormal, reasonDeleted, "Stopped the virtual machine by deleting the virtual machine instance "+vmi.Name)
	}
	for range min(max(p.short, 0), burst) {
		vmi := newVMI(p.set)
		if err := r.Client.Create(ctx, vmi); err != nil {
			r.event(p.set, corev1.EventTypeWarning, reasonCreateFailed, "Error creating virtual machine instance: "+err.Error())
			return fmt.Errorf("create a VMI: %w", err)
		}
		r.ledger.created(key, vmi.UID)
		r.event(p.set, corev1.EventTypeNormal, reasonCreated, "Started the virtual machine by creating the new virtual machine instance "+vmi.Name)
	}
	return nil
}

// expendable picks the n VMIs whose loss hurts least: those that do not run before those that do, unready before ready, and
// the youngest first.
func expendable(living []*v1.VirtualMachineInstance, n int) []*v1.VirtualMachineInstance {
	sorted := slices.Clone(living)
	slices.SortStableFunc(sorted, func(a, b *v1.VirtualMachineInstance) int {
		if d := worth(a) - worth(b); d != 0 {
			return d
		}
		return b.CreationTimestamp.Compare(a.CreationTimestamp.Time)
	})
	return sorted[:min(n, len(sorted))]
}

func worth(vmi *v1.VirtualMachineInstance) int {
	switch {
	case condition.Is(vmi, v1.VirtualMachineInstanceReady, corev1.ConditionTrue):
		return 3
	case vmi.IsRunning():
		return 2
	case vmi.IsScheduled(), vmi.IsScheduling():
		return 1
	}
	return 0
}

func newVMI(set *v1.VirtualMachineInstanceReplicaSet) *v1.VirtualMachineInstance {
	template := set.Spec.Template.DeepCopy()
	return &v1.VirtualMachineInstance{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: set.Namespace, GenerateName: set.Name, Labels: template.ObjectMeta.Labels, Annotations: template.ObjectMeta.Annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(set, v1.VirtualMachineInstanceReplicaSetGroupVersionKind)},
		},
		Spec: template.Spec,
	}
}

// show writes down how many there are.
func (r *Reconciler) show(p *pass, scaled error) {
	s := &p.set.Status
	s.Replicas, s.ReadyReplicas = int32(len(p.living)), 0
	for _, vmi := range p.living {
		if condition.Is(vmi, v1.VirtualMachineInstanceReady, corev1.ConditionTrue) {
			s.ReadyReplicas++
		}
	}
	if selector, err := metav1.LabelSelectorAsSelector(p.set.Spec.Selector); err == nil {
		s.LabelSelector = selectorText(selector)
	}
	failure, message := "", ""
	if scaled != nil {
		failure, message = reasonCreateFailed, scaled.Error()
		if p.short <= 0 {
			failure = reasonDeleteFailed
		}
	}
	r.setCondition(p.set, v1.VirtualMachineInstanceReplicaSetReplicaFailure, failure, message)
	paused, why := "", ""
	if p.set.Spec.Paused {
		paused, why = "Paused", "Controller got paused"
	}
	r.setCondition(p.set, v1.VirtualMachineInstanceReplicaSetReplicaPaused, paused, why)
}

func selectorText(s labels.Selector) string { return strings.TrimSpace(s.String()) }

// setCondition sets a condition True for a reason, or takes it away when there is none.
func (r *Reconciler) setCondition(set *v1.VirtualMachineInstanceReplicaSet, t v1.VirtualMachineInstanceReplicaSetConditionType, reason, message string) {
	at := slices.IndexFunc(set.Status.Conditions, func(c v1.VirtualMachineInstanceReplicaSetCondition) bool { return c.Type == t })
	switch {
	case reason == "" && at >= 0:
		set.Status.Conditions = slices.Delete(set.Status.Conditions, at, at+1)
	case reason == "":
	case at >= 0:
		set.Status.Conditions[at].Reason, set.Status.Conditions[at].Message = reason, message
	default:
		set.Status.Conditions = append(set.Status.Conditions, v1.VirtualMachineInstanceReplicaSetCondition{
			Type: t, Status: corev1.ConditionTrue, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(r.Now()),
		})
	}
}

func (r *Reconciler) event(set *v1.VirtualMachineInstanceReplicaSet, kind, reason, note string) {
	if len(note) > 1000 {
		note = note[:1000] + "..."
	}
	r.Recorder.Eventf(set, nil, kind, reason, "Scale", "%s", note)
}

// Setup adds the reconciler to the manager.
func (r *Reconciler) Setup(mgr manager.Manager) error {
	err := builder.ControllerManagedBy(mgr).
		Named("virtualmachineinstancereplicaset").
		For(&v1.VirtualMachineInstanceReplicaSet{}).
		Watches(&v1.VirtualMachineInstance{}, handler.EnqueueRequestsFromMapFunc(r.concerned)).
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the replica set controller: %w", err)
	}
	return nil
}

// concerned is the set that owns a VMI, or the sets that may adopt it.
func (r *Reconciler) concerned(ctx context.Context, vmi client.Object) []reconcile.Request {
	if owner := metav1.GetControllerOf(vmi); owner != nil {
		if owner.Kind != v1.VirtualMachineInstanceReplicaSetGroupVersionKind.Kind {
			return nil
		}
		key := types.NamespacedName{Namespace: vmi.GetNamespace(), Name: owner.Name}
		r.ledger.seen(key, vmi.GetUID())
		return []reconcile.Request{{NamespacedName: key}}
	}
	var sets v1.VirtualMachineInstanceReplicaSetList
	if err := r.Client.List(ctx, &sets, client.InNamespace(vmi.GetNamespace())); err != nil {
		return nil
	}
	var out []reconcile.Request
	for i := range sets.Items {
		set := &sets.Items[i]
		if s, err := metav1.LabelSelectorAsSelector(set.Spec.Selector); err == nil && !s.Empty() && s.Matches(labels.Set(vmi.GetLabels())) {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(set)})
		}
	}
	return out
}
