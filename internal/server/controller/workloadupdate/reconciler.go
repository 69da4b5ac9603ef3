// Package workloadupdate brings running machines to the launcher of the installed version: it counts those that have an older one, and
// migrates or evicts them the way the KubeVirt resource's workloadUpdateStrategy says. Without a method it only counts.
package workloadupdate

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
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

// Contract's defaults of the batches, and how often the count is written at most.
const (
	batchSize     = 10
	batchInterval = time.Minute
	countEvery    = 5 * time.Second
	// forget is when a migration that never appeared in the cache is taken for deleted.
	forget = 10 * time.Second
)

// Reasons of the events on a VMI.
const (
	reasonMigrates = "SuccessfulCreate"
	reasonEvicts   = "SuccessfulEviction"
	reasonFailed   = "FailedEviction"
)

// Options is what a Reconciler works with.
type Options struct {
	Client   client.Client
	Config   *clusterconfig.Source
	Recorder events.EventRecorder
	Now      func() time.Time
}

// Reconciler reconciles the KubeVirt resource's workloads. Only one reconciliation runs at a time.
type Reconciler struct {
	Options
	counted, evicted time.Time
	// made are the VMIs whose migrations the cache may not show yet.
	made map[types.UID]time.Time
}

// New gives a Reconciler.
func New(o Options) *Reconciler {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Reconciler{Options: o, made: map[types.UID]time.Time{}}
}

// Setup adds the reconciler to the manager.
func (r *Reconciler) Setup(mgr manager.Manager) error {
	toKubeVirt := handler.EnqueueRequestsFromMapFunc(r.kubeVirts)
	err := builder.ControllerManagedBy(mgr).
		Named("workload-update").
		For(&v1.KubeVirt{}).
		Watches(&v1.VirtualMachineInstance{}, toKubeVirt, builder.WithPredicates(outdatedChanges())).
		Watches(&v1.VirtualMachineInstanceMigration{}, toKubeVirt, builder.WithPredicates(endings())).
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the workload update controller: %w", err)
	}
	return nil
}

func outdated(obj client.Object) bool {
	_, old := obj.GetLabels()[v1.OutdatedLauncherImageLabel]
	return old
}

// outdatedChanges are when a VMI becomes or ceases to be outdated; what is not outdated does not concern us.
func outdatedChanges() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return outdated(e.Object) },
		DeleteFunc: func(e event.DeleteEvent) bool { return outdated(e.Object) },
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, ok := e.ObjectOld.(*v1.VirtualMachineInstance)
			after, ok2 := e.ObjectNew.(*v1.VirtualMachineInstance)
			return ok && ok2 && (outdated(before) != outdated(after) ||
				outdated(after) && (before.Status.Phase != after.Status.Phase || before.IsMigratable() != after.IsMigratable()))
		},
	}
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

func (r *Reconciler) kubeVirts(ctx context.Context, _ client.Object) []reconcile.Request {
	var all v1.KubeVirtList
	if err := r.Client.List(ctx, &all); err != nil {
		return nil // the cache answers, unless it is being shut down
	}
	var out []reconcile.Request
	for i := range all.Items {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&all.Items[i])})
	}
	return out
}

// Reconcile counts the outdated machines and updates some of them.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	kv := &v1.KubeVirt{}
	if err := r.Client.Get(ctx, req.NamespacedName, kv); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if kv.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	var list v1.VirtualMachineInstanceList
	if err := r.Client.List(ctx, &list, client.HasLabels{v1.OutdatedLauncherImageLabel}); err != nil {
		return reconcile.Result{}, fmt.Errorf("list the outdated VMIs: %w", err)
	}
	var old []*v1.VirtualMachineInstance
	for i := range list.Items {
		if vmi := &list.Items[i]; vmi.Status.Phase == v1.Running && vmi.DeletionTimestamp == nil {
			old = append(old, vmi)
		}
	}
	slices.SortFunc(old, func(a, b *v1.VirtualMachineInstance) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	again, err := r.count(ctx, kv, len(old))
	if err != nil {
		return reconcile.Result{}, err
	}
	later, err := r.update(ctx, kv, old)
	if later > 0 && (again == 0 || later < again) {
		again = later
	}
	return reconcile.Result{RequeueAfter: again}, err
}

// count writes how many machines are outdated, now and then while that changes quickly.
func (r *Reconciler) count(ctx context.Context, kv *v1.KubeVirt, count int) (time.Duration, error) {
	known := kv.Status.OutdatedVirtualMachineInstanceWorkloads
	if known != nil && *known == count || known == nil && count == 0 {
		return 0, nil
	}
	if wait := r.counted.Add(countEvery).Sub(r.Now()); wait > 0 {
		return wait, nil
	}
	next := kv.DeepCopy()
	next.Status.OutdatedVirtualMachineInstanceWorkloads = &count
	if err := r.Client.Status().Patch(ctx, next, client.MergeFrom(kv)); client.IgnoreNotFound(err) != nil {
		return 0, fmt.Errorf("write how many VMIs are outdated: %w", err)
	}
	r.counted = r.Now()
	return 0, nil
}

// update moves or evicts some of the outdated machines; after says when to look again.
func (r *Reconciler) update(ctx context.Context, kv *v1.KubeVirt, old []*v1.VirtualMachineInstance) (after time.Duration, err error) {
	methods := kv.Spec.WorkloadUpdateStrategy.WorkloadUpdateMethods
	migrates, evicts := slices.Contains(methods, v1.WorkloadUpdateMethodLiveMigrate), slices.Contains(methods, v1.WorkloadUpdateMethodEvict)
	// While the platform itself is being updated, nodes take in no guest or send none.
	if len(old) == 0 || !migrates && !evicts || kv.Status.Phase != v1.KubeVirtPhaseDeployed ||
		kv.Status.ObservedKubeVirtVersion != kv.Status.TargetKubeVirtVersion {
		return 0, nil
	}
	running, err := migration.Unfinished(ctx, r.Client, "")
	if err != nil {
		return 0, err
	}
	moving := map[types.NamespacedName]bool{}
	for _, m := range running {
		moving[types.NamespacedName{Namespace: m.Namespace, Name: m.Spec.VMIName}] = true
	}
	var movable, fixed []*v1.VirtualMachineInstance
	for _, vmi := range old {
		switch {
		case moving[client.ObjectKeyFromObject(vmi)]:
			delete(r.made, vmi.UID)
		case migrates && vmi.IsMigratable():
			movable = append(movable, vmi)
		case evicts:
			fixed = append(fixed, vmi)
		}
	}
	if err := r.migrate(ctx, movable, int(r.Config.Get().Migration.ParallelPerCluster)-len(running)); err != nil {
		return 0, err
	}
	return r.evict(ctx, kv, fixed)
}

// migrate makes migrations as long as there is room. The end of one of them brings us back.
func (r *Reconciler) migrate(ctx context.Context, movable []*v1.VirtualMachineInstance, room int) error {
	for uid, at := range r.made {
		if r.Now().Sub(at) > forget {
			delete(r.made, uid)
		}
	}
	room -= len(r.made)
	priority := v1.PrioritySystemMaintenance
	for _, vmi := range movable {
		if _, made := r.made[vmi.UID]; made || room <= 0 {
			continue
		}
		m := &v1.VirtualMachineInstanceMigration{
			ObjectMeta: metav1.ObjectMeta{
				GenerateName: "kubevirt-workload-update-", Namespace: vmi.Namespace,
				Annotations: map[string]string{v1.WorkloadUpdateMigrationAnnotation: ""},
			},
			Spec: v1.VirtualMachineInstanceMigrationSpec{VMIName: vmi.Name, Priority: &priority},
		}
		err := r.Client.Create(ctx, m)
		if apierrors.IsBadRequest(err) || apierrors.IsInvalid(err) || apierrors.IsForbidden(err) {
			r.Recorder.Eventf(vmi, nil, corev1.EventTypeWarning, "FailedCreate", "Update", "Error creating a Migration for a newer launcher: %v", err)
			continue
		}
		if err != nil {
			return fmt.Errorf("create a migration of %s/%s: %w", vmi.Namespace, vmi.Name, err)
		}
		r.made[vmi.UID] = r.Now()
		room--
		r.Recorder.Eventf(vmi, nil, corev1.EventTypeNormal, reasonMigrates, "Update", "Created Migration %s to a newer launcher", m.Name)
	}
	return nil
}

// evict has a batch of machines end, whose run strategies start them again with the new launcher.
func (r *Reconciler) evict(ctx context.Context, kv *v1.KubeVirt, fixed []*v1.VirtualMachineInstance) (time.Duration, error) {
	if len(fixed) == 0 {
		return 0, nil
	}
	size, interval := batchSize, batchInterval
	if s := kv.Spec.WorkloadUpdateStrategy.BatchEvictionSize; s != nil {
		size = *s
	}
	if i := kv.Spec.WorkloadUpdateStrategy.BatchEvictionInterval; i != nil {
		interval = i.Duration
	}
	if wait := r.evicted.Add(interval).Sub(r.Now()); wait > 0 {
		return wait, nil
	}
	r.evicted = r.Now()
	for _, vmi := range fixed[:min(size, len(fixed))] {
		if err := r.evictOne(ctx, vmi); err != nil {
			return 0, err
		}
	}
	return interval, nil
}

func (r *Reconciler) evictOne(ctx context.Context, vmi *v1.VirtualMachineInstance) error {
	pods, err := index.OwnedPods(ctx, r.Client, vmi.Namespace, vmi.UID)
	if err != nil {
		return err
	}
	for i := range pods {
		pod := &pods[i]
		if pod.DeletionTimestamp != nil || pod.Status.Phase != corev1.PodRunning {
			continue
		}
		err := r.Client.SubResource("eviction").Create(ctx, pod, &policyv1.Eviction{
			ObjectMeta:    metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
			DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}},
		})
		switch {
		case err == nil:
			r.Recorder.Eventf(vmi, nil, corev1.EventTypeNormal, reasonEvicts, "Update", "Evicted the machine for a newer launcher")
		case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		case apierrors.IsTooManyRequests(err), apierrors.IsForbidden(err):
			r.Recorder.Eventf(vmi, nil, corev1.EventTypeWarning, reasonFailed, "Update", "The machine cannot be evicted for a newer launcher: %v", err)
		default:
			return fmt.Errorf("evict %s/%s: %w", pod.Namespace, pod.Name, err)
		}
	}
	return nil
}
