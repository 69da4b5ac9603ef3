// Package migration moves running guests to other nodes, as far as the cluster is concerned: it admits migrations within their
// limits, makes the target's pod, hands over to the two nodes' agents, and tells what became of it.
//
// The agents do the moving. What they report stands in the VMI's status.migrationState; this package copies it and draws the
// migration's phase from it, so that a controller which starts in the middle goes on where it was.
package migration

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/migrationprogress"
	"virtctl/internal/server/controller/index"
	"virtctl/internal/server/writer"
)

// Options is what a Reconciler works with.
type Options struct {
	Client client.Client
	// Live reads from the API server, where an old cache would mislead.
	Live          client.Reader
	Config        *clusterconfig.Source
	Recorder      events.EventRecorder
	LauncherImage string
	Now           func() time.Time
}

// Reconciler reconciles VirtualMachineInstanceMigrations.
type Reconciler struct {
	Options
	writer *writer.Writer
	vmis   *writer.Writer

	mu sync.Mutex
	// entered is when migrations that are under way entered phases that are yet to be written.
	entered map[types.NamespacedName]map[v1.VirtualMachineInstanceMigrationPhase]time.Time
	// noPlace are those whose target pod waits for a node, and who were told.
	noPlace map[types.NamespacedName]bool
}

// New gives a Reconciler.
func New(o Options) *Reconciler {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Reconciler{
		Options: o, writer: writer.New(o.Client), vmis: writer.New(o.Client),
		entered: map[types.NamespacedName]map[v1.VirtualMachineInstanceMigrationPhase]time.Time{},
		noPlace: map[types.NamespacedName]bool{},
	}
}

// Setup adds the reconciler to the manager.
func (r *Reconciler) Setup(mgr manager.Manager) error {
	config := make(chan event.GenericEvent, 1)
	r.Config.OnChange(func(clusterconfig.Config) {
		select {
		case config <- event.GenericEvent{Object: &v1.VirtualMachineInstanceMigration{}}:
		default: // one is waiting already
		}
	})
	err := builder.ControllerManagedBy(mgr).
		Named("virtualmachineinstancemigration").
		For(&v1.VirtualMachineInstanceMigration{}).
		Watches(&v1.VirtualMachineInstanceMigration{}, handler.EnqueueRequestsFromMapFunc(r.admissible), builder.WithPredicates(endings())).
		WatchesRawSource(source.Channel(config, handler.EnqueueRequestsFromMapFunc(r.admissible))).
		Watches(&v1.VirtualMachineInstance{}, handler.EnqueueRequestsFromMapFunc(r.ofVMI)).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(r.ofPod)).
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the migration controller: %w", err)
	}
	return nil
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

// admissible gives the migrations that may begin now.
func (r *Reconciler) admissible(ctx context.Context, _ client.Object) []reconcile.Request {
	next, err := r.next(ctx)
	if err != nil {
		return nil // the cache answers, unless it is being shut down
	}
	var out []reconcile.Request
	for _, m := range next {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(m)})
	}
	return out
}

// ofVMI gives the unfinished migrations of a VMI.
func (r *Reconciler) ofVMI(ctx context.Context, vmi client.Object) []reconcile.Request {
	all, err := Unfinished(ctx, r.Client, vmi.GetNamespace())
	if err != nil {
		return nil
	}
	var out []reconcile.Request
	for _, m := range all {
		if m.Spec.VMIName == vmi.GetName() {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(m)})
		}
	}
	return out
}

// ofPod gives the migration that a pod is the target of.
func (r *Reconciler) ofPod(ctx context.Context, pod client.Object) []reconcile.Request {
	job := pod.GetLabels()[v1.MigrationJobLabel]
	if job == "" {
		return nil
	}
	all, err := Unfinished(ctx, r.Client, pod.GetNamespace())
	if err != nil {
		return nil
	}
	for _, m := range all {
		if string(m.UID) == job {
			return []reconcile.Request{{NamespacedName: client.ObjectKeyFromObject(m)}}
		}
	}
	return nil
}

// pass is one reconciliation.
type pass struct {
	before, migration *v1.VirtualMachineInstanceMigration
	// vmi is nil when it is gone.
	vmi            *v1.VirtualMachineInstance
	source, target *corev1.Pod
	after          time.Duration
}

// state is what the nodes report of this very migration, nil before the handover.
func (p *pass) state() *v1.VirtualMachineInstanceMigrationState {
	if p.vmi == nil || p.vmi.Status.MigrationState == nil || p.vmi.Status.MigrationState.MigrationUID != p.migration.UID {
		return nil
	}
	return p.vmi.Status.MigrationState
}

// sourceName is the pod that the guest is moved from, as it was written down, "" before that. Of a migration that is over only its own
// account knows: the VMI tells about the last one, and the pod the guest is in now may be any.
func (p *pass) sourceName() string {
	if state := p.state(); state != nil {
		return state.SourcePod
	}
	if state := p.migration.Status.MigrationState; state != nil {
		return state.SourcePod
	}
	return ""
}

// Reconcile brings one migration forward by as many phases as it can.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	p, err := r.begin(ctx, req.NamespacedName)
	if p == nil || err != nil {
		return reconcile.Result{}, err
	}
	for moved := true; moved && err == nil; {
		phase := p.migration.Status.Phase
		if err = r.advance(ctx, p); err == nil {
			moved = phase != p.migration.Status.Phase
		}
	}
	if state := p.state(); state != nil {
		p.migration.Status.MigrationState = state.DeepCopy()
	}
	if wait := r.settling(p); wait > 0 && err == nil {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	// The status first: a finalizer that goes takes the object with it.
	status := p.migration.DeepCopy()
	_, failed := r.writer.PatchStatus(ctx, p.before, status)
	if err = errors.Join(err, failed); err != nil {
		return reconcile.Result{}, err
	}
	if p.migration.IsFinal() {
		r.forget(req.NamespacedName)
		if err := r.release(ctx, p); err != nil {
			return reconcile.Result{}, err
		}
		if err := r.cleanUp(ctx, p, status); err != nil {
			return reconcile.Result{}, err
		}
	}
	return reconcile.Result{RequeueAfter: p.after}, nil
}

func (r *Reconciler) begin(ctx context.Context, key types.NamespacedName) (*pass, error) {
	m := &v1.VirtualMachineInstanceMigration{}
	if err := r.Client.Get(ctx, key, m); err != nil {
		if apierrors.IsNotFound(err) {
			r.writer.Forget(key)
			r.forget(key)
			return nil, nil
		}
		return nil, err
	}
	if r.writer.Stale(m) {
		return nil, nil
	}
	p := &pass{before: m, migration: m.DeepCopy()}
	vmi := &v1.VirtualMachineInstance{}
	err := r.Client.Get(ctx, types.NamespacedName{Namespace: m.Namespace, Name: m.Spec.VMIName}, vmi)
	if client.IgnoreNotFound(err) != nil {
		return nil, err
	}
	if err == nil {
		p.vmi = vmi
		if err := r.findPods(ctx, p); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (r *Reconciler) findPods(ctx context.Context, p *pass) error {
	pods, err := index.OwnedPods(ctx, r.Client, p.vmi.Namespace, p.vmi.UID)
	if err != nil {
		return err
	}
	for i := range pods {
		pod := &pods[i]
		switch {
		case pod.Labels[v1.MigrationJobLabel] == string(p.migration.UID):
			p.target = pod
		case p.sourceName() != "":
			if pod.Name == p.sourceName() {
				p.source = pod
			}
		case !p.migration.IsFinal() && pod.Spec.NodeName == p.vmi.Status.NodeName && pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp == nil:
			p.source = pod
		}
	}
	return nil
}

// release lets go of the VMI: a migration that is over must neither stand in the way of the next one nor keep the target's
// node interested. The nodes have said so themselves unless one of them was lost.
func (r *Reconciler) release(ctx context.Context, p *pass) error {
	state := p.state()
	if state == nil || p.vmi.DeletionTimestamp != nil {
		return nil
	}
	next := p.vmi.DeepCopy()
	if p.migration.Status.Phase == v1.MigrationFailed && !state.Failed && !state.Completed {
		now := metav1.NewTime(r.Now())
		// What has failed is completed, too (contract).
		next.Status.MigrationState.Completed, next.Status.MigrationState.Failed, next.Status.MigrationState.EndTimestamp = true, true, &now
		next.Status.MigrationState.FailureReason = why(p.migration)
	}
	delete(next.Labels, v1.MigrationTargetNodeNameLabel)
	if p.migration.Status.Phase == v1.MigrationSucceeded {
		delete(next.Annotations, v1.EvictionSourceAnnotation)
	}
	_, err := r.vmis.Patch(ctx, p.vmi, next)
	return err
}

// cleanUp takes away what a migration that is over leaves: the pod the guest is not in, its own finalizer, and migrations
// that ended long before.
func (r *Reconciler) cleanUp(ctx context.Context, p *pass, stored *v1.VirtualMachineInstanceMigration) error {
	if !controllerutil.ContainsFinalizer(stored, v1.VirtualMachineInstanceMigrationFinalizer) {
		return nil // all of it is done
	}
	leftover := p.target
	if p.migration.Status.Phase == v1.MigrationSucceeded {
		leftover = p.source
	}
	if leftover != nil && leftover.DeletionTimestamp == nil {
		err := r.Client.Delete(ctx, leftover, client.Preconditions{UID: &leftover.UID})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("delete the pod that the guest left: %w", err)
		}
	}
	if err := r.forgetOld(ctx, p.migration); err != nil {
		return err
	}
	free := stored.DeepCopy()
	controllerutil.RemoveFinalizer(free, v1.VirtualMachineInstanceMigrationFinalizer)
	if p.vmi != nil && migrationprogress.Of(p.vmi.Annotations, stored.UID) != nil {
		// The VMI's next migration writes over it.
		metav1.SetMetaDataAnnotation(&free.ObjectMeta, migrationprogress.Annotation, p.vmi.Annotations[migrationprogress.Annotation])
	}
	_, err := r.writer.Patch(ctx, stored, free)
	return err
}

// kept is how many migrations of a VMI that are over stay to be looked at.
const kept = 5

func (r *Reconciler) forgetOld(ctx context.Context, m *v1.VirtualMachineInstanceMigration) error {
	var list v1.VirtualMachineInstanceMigrationList
	if err := r.Client.List(ctx, &list, client.InNamespace(m.Namespace)); err != nil {
		return fmt.Errorf("list the migrations: %w", err)
	}
	for _, old := range outdated(list.Items, m.Spec.VMIName) {
		if err := r.Client.Delete(ctx, old); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete the old migration %s: %w", old.Name, err)
		}
	}
	return nil
}

func (r *Reconciler) event(about client.Object, kind, reason, note string) {
	r.Recorder.Eventf(about, nil, kind, reason, "Migrate", "%s", note)
}

// enter changes the phase and notes when.
func (r *Reconciler) enter(p *pass, phase v1.VirtualMachineInstanceMigrationPhase) {
	s := &p.migration.Status
	s.Phase = phase
	s.PhaseTransitionTimestamps = append(s.PhaseTransitionTimestamps, v1.VirtualMachineInstanceMigrationPhaseTransitionTimestamp{
		Phase: phase, PhaseTransitionTimestamp: metav1.NewTime(r.since(client.ObjectKeyFromObject(p.migration), phase)),
	})
}
