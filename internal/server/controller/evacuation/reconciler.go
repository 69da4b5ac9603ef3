// Package evacuation empties nodes: it makes migrations for the guests that an eviction or a taint asks to leave, as many at a time as
// the cluster lets run.
//
// One reconciliation is for one node. Everything it goes by stands in the API: the VMI's status.evacuationNodeName, which the eviction
// webhook sets, the node's taint, and the migrations there are.
package evacuation

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/server/controller/index"
	"virtctl/internal/server/controller/migration"
)

// Reasons of the events on a VMI.
const (
	reasonCreated = "SuccessfulCreate"
	reasonFailed  = "FailedCreate"
)

// descheduler is who asked for an eviction that is upkeep and can wait.
const descheduler = "descheduler"

// Options is what a Reconciler works with.
type Options struct {
	Client   client.Client
	Config   *clusterconfig.Source
	Recorder events.EventRecorder
	Now      func() time.Time
}

// Reconciler reconciles nodes.
type Reconciler struct {
	Options
	// made are the migrations that the cache may not show yet, by the VMI's UID. Only one reconciliation runs at a time.
	made map[types.UID]made
}

type made struct {
	name types.NamespacedName
	at   time.Time
}

// New gives a Reconciler.
func New(o Options) *Reconciler {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Reconciler{Options: o, made: map[types.UID]made{}}
}

// Setup adds the reconciler to the manager.
func (r *Reconciler) Setup(mgr manager.Manager) error {
	err := builder.ControllerManagedBy(mgr).
		Named("evacuation").
		For(&corev1.Node{}, builder.WithPredicates(taintChanges())).
		Watches(&v1.VirtualMachineInstance{}, handler.EnqueueRequestsFromMapFunc(ofVMI), builder.WithPredicates(marks())).
		Watches(&v1.VirtualMachineInstanceMigration{}, handler.EnqueueRequestsFromMapFunc(r.ofMigration), builder.WithPredicates(endings())).
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the evacuation controller: %w", err)
	}
	return nil
}

func taintChanges() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*corev1.Node)
		after, ok2 := e.ObjectNew.(*corev1.Node)
		return ok && ok2 && !slices.Equal(before.Spec.Taints, after.Spec.Taints)
	}}
}

// marks leaves out the many changes of a VMI that do not decide whether it shall leave.
func marks() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*v1.VirtualMachineInstance)
		after, ok2 := e.ObjectNew.(*v1.VirtualMachineInstance)
		return ok && ok2 && (before.Status.EvacuationNodeName != after.Status.EvacuationNodeName ||
			before.Status.NodeName != after.Status.NodeName || before.Status.Phase != after.Status.Phase ||
			before.IsMigratable() != after.IsMigratable())
	}}
}

// endings are what makes room for another migration.
func endings() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, ok := e.ObjectOld.(*v1.VirtualMachineInstanceMigration)
			after, ok2 := e.ObjectNew.(*v1.VirtualMachineInstanceMigration)
			return ok && ok2 && !before.IsFinal() && after.IsFinal()
		},
	}
}

func ofVMI(_ context.Context, obj client.Object) []reconcile.Request {
	vmi, ok := obj.(*v1.VirtualMachineInstance)
	if !ok || vmi.Status.NodeName == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: vmi.Status.NodeName}}}
}

// ofMigration gives every node that somebody shall leave: an end makes room in the cluster, not only on its own node.
func (r *Reconciler) ofMigration(ctx context.Context, _ client.Object) []reconcile.Request {
	var all v1.VirtualMachineInstanceList
	if err := r.Client.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return nil // the cache answers, unless it is being shut down
	}
	var nodes corev1.NodeList
	if err := r.Client.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return nil
	}
	names := map[string]bool{}
	for i := range all.Items {
		if name := all.Items[i].Status.EvacuationNodeName; name != "" && name == all.Items[i].Status.NodeName {
			names[name] = true
		}
	}
	for i := range nodes.Items {
		if r.drained(&nodes.Items[i]) {
			names[nodes.Items[i].Name] = true
		}
	}
	var out []reconcile.Request
	for name := range names {
		out = append(out, reconcile.Request{NamespacedName: types.NamespacedName{Name: name}})
	}
	return out
}

// drained tells that the node has the taint that empties it of virtual machines.
func (r *Reconciler) drained(node *corev1.Node) bool {
	key := r.Config.Get().Migration.NodeDrainTaintKey
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool {
		return t.Key == key && t.Effect == corev1.TaintEffectNoSchedule
	})
}

// Reconcile makes migrations for the guests that shall leave one node.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	node := &corev1.Node{}
	if err := r.Client.Get(ctx, req.NamespacedName, node); client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, err
	}
	var guests v1.VirtualMachineInstanceList
	if err := r.Client.List(ctx, &guests, client.MatchingFields{index.Node: req.Name}); err != nil {
		return reconcile.Result{}, fmt.Errorf("list the VMIs on %s: %w", req.Name, err)
	}
	tainted := r.drained(node)
	var leaving []*v1.VirtualMachineInstance
	for i := range guests.Items {
		if vmi := &guests.Items[i]; r.shallLeave(vmi, tainted) {
			leaving = append(leaving, vmi)
		}
	}
	if len(leaving) == 0 {
		return reconcile.Result{}, nil
	}
	return r.send(ctx, req.Name, guests.Items, leaving)
}

// shallLeave tells that a guest is asked to leave and can.
func (r *Reconciler) shallLeave(vmi *v1.VirtualMachineInstance, tainted bool) bool {
	if vmi.Status.Phase != v1.Running || vmi.DeletionTimestamp != nil || !vmi.IsMigratable() {
		return false
	}
	switch r.strategy(vmi) {
	case v1.EvictionStrategyLiveMigrate, v1.EvictionStrategyLiveMigrateIfPossible:
		return tainted || vmi.Status.EvacuationNodeName == vmi.Status.NodeName
	}
	return false // External: somebody else sees to it
}

func (r *Reconciler) strategy(vmi *v1.VirtualMachineInstance) v1.EvictionStrategy {
	if vmi.Spec.EvictionStrategy != nil {
		return *vmi.Spec.EvictionStrategy
	}
	return r.Config.Get().EvictionStrategy
}

// send makes as many migrations as may run now. The end of one of them brings us back.
func (r *Reconciler) send(ctx context.Context, node string, guests []v1.VirtualMachineInstance, leaving []*v1.VirtualMachineInstance) (reconcile.Result, error) {
	running, err := migration.Unfinished(ctx, r.Client, "")
	if err != nil {
		return reconcile.Result{}, err
	}
	moving := map[types.NamespacedName]bool{}
	for _, m := range running {
		moving[types.NamespacedName{Namespace: m.Namespace, Name: m.Spec.VMIName}] = true
	}
	unseen, err := r.unseen(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	outbound := len(unseen)
	for i := range guests {
		if moving[client.ObjectKeyFromObject(&guests[i])] {
			outbound++
		}
	}
	limits := r.Config.Get().Migration
	room := min(int(limits.ParallelPerCluster)-len(running)-len(unseen), int(limits.ParallelOutboundPerNode)-outbound)
	for _, vmi := range leaving {
		if room <= 0 {
			break
		}
		if moving[client.ObjectKeyFromObject(vmi)] || unseen[vmi.UID] {
			continue
		}
		if err := r.create(ctx, node, vmi); err != nil {
			return reconcile.Result{}, err
		}
		room--
	}
	return reconcile.Result{}, nil
}

// forget is when a migration that never appeared in the cache is taken for deleted.
const forget = 10 * time.Second

// unseen gives the VMIs whose migrations we made and the cache does not show yet.
func (r *Reconciler) unseen(ctx context.Context) (map[types.UID]bool, error) {
	out := map[types.UID]bool{}
	for uid, m := range r.made {
		err := r.Client.Get(ctx, m.name, &v1.VirtualMachineInstanceMigration{})
		if client.IgnoreNotFound(err) != nil {
			return nil, err
		}
		if err == nil || r.Now().Sub(m.at) > forget {
			delete(r.made, uid)
			continue
		}
		out[uid] = true
	}
	return out, nil
}

func (r *Reconciler) create(ctx context.Context, node string, vmi *v1.VirtualMachineInstance) error {
	priority := v1.PrioritySystemCritical
	if vmi.Annotations[v1.EvictionSourceAnnotation] == descheduler {
		priority = v1.PrioritySystemMaintenance
	}
	m := &v1.VirtualMachineInstanceMigration{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "kubevirt-evacuation-", Namespace: vmi.Namespace,
			Annotations: map[string]string{v1.EvacuationMigrationAnnotation: node},
		},
		Spec: v1.VirtualMachineInstanceMigrationSpec{VMIName: vmi.Name, Priority: &priority},
	}
	err := r.Client.Create(ctx, m)
	if apierrors.IsBadRequest(err) || apierrors.IsInvalid(err) || apierrors.IsForbidden(err) {
		// Admission knows better than our cache: the VMI is moving already, or cannot move any more. A change of either brings us back.
		r.Recorder.Eventf(vmi, nil, corev1.EventTypeWarning, reasonFailed, "Evacuate", "Error creating a Migration: %v", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("create a migration of %s/%s: %w", vmi.Namespace, vmi.Name, err)
	}
	r.made[vmi.UID] = made{client.ObjectKeyFromObject(m), r.Now()}
	r.Recorder.Eventf(vmi, nil, corev1.EventTypeNormal, reasonCreated, "Evacuate", "Created Migration %s to leave node %s", m.Name, node)
	return nil
}
