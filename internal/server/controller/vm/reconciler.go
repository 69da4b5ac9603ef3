// Package vm runs VirtualMachines: it makes and removes a VM's VirtualMachineInstance as the run strategy and the users'
// requests say, and tells in the VM's status what is going on.
package vm

import (
	"context"
	"errors"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/server/writer"
)

// DataVolumes makes the DataVolumes of a VM's templates and tells how far they are.
type DataVolumes interface {
	// Ensure creates what is missing. The progress is of the volumes that are not ready, worst first.
	Ensure(ctx context.Context, vm *v1.VirtualMachine) (Progress, error)
}

// Progress is how far the filling of a VM's claims is.
type Progress struct {
	// Ready: all claims may be used.
	Ready bool
	// Failed: one of them will not become ready by itself.
	Failed bool
	// WaitsForConsumer: the claims are bound by the pod that uses them first.
	WaitsForConsumer bool
	// Why says what is waited for.
	Why string
}

// Options is what a Reconciler works with.
type Options struct {
	// Client reads from the cache and writes; Live reads from the API server.
	Client   client.Client
	Live     client.Reader
	Config   *clusterconfig.Source
	Recorder events.EventRecorder
	// DataVolumes may be nil where the cluster has none.
	DataVolumes DataVolumes
	// Now is the clock; Jitter gives a number in [0,1).
	Now    func() time.Time
	Jitter func() float64
}

// Reconciler reconciles VMs.
type Reconciler struct {
	Options
	writer *writer.Writer

	mu    sync.Mutex
	known map[types.NamespacedName]memory
}

// memory is what we did to a VM's VMI that the cache may not show yet.
type memory struct {
	created, deleted types.UID
	// lagsSince is when we first saw that the VMI's readiness does not yet tell what its guest does.
	lagsSince time.Time
	// lastStart is the revision the VMI was started from, read when the VM has changed since.
	lastStart     *v1.VirtualMachineSpec
	lastStartName string
	// types is what the VM refers to and the copies of it, once they have been seen to be good.
	types string
	// kept is the revision that was written down.
	kept string
}

// New gives a Reconciler.
func New(o Options) *Reconciler {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Reconciler{Options: o, writer: writer.New(o.Client), known: map[types.NamespacedName]memory{}}
}

// pass is one reconciliation. Steps change vm's status; what differs from before is written once.
type pass struct {
	key        types.NamespacedName
	before, vm *v1.VirtualMachine
	// vmi is the VM's VMI, or nil. going tells that it was told to go.
	vmi   *v1.VirtualMachineInstance
	going bool
	// strategy is the run strategy in force, do what it wants done.
	strategy v1.VirtualMachineRunStrategy
	do       action
	// failure is why the VMI could not be made, as the condition tells it; err brings the VM back to the queue.
	failure *failure
	err     error
	data    Progress
	// outdated are copies of instance types and preferences that newer copies have replaced.
	outdated []string
	// hold keeps the status from being written in this pass, because more is about to be known.
	hold  bool
	after time.Duration
}

type failure struct{ reason, message string }

func (p *pass) again(d time.Duration) {
	if p.after == 0 || d < p.after {
		p.after = max(d, time.Millisecond)
	}
}

type step func(context.Context, *pass) error

// Reconcile brings one VM forward.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	p, err := r.begin(ctx, req.NamespacedName)
	if p == nil || err != nil {
		return reconcile.Result{}, err
	}
	if p.vm.DeletionTimestamp != nil {
		err := r.remove(ctx, p)
		return reconcile.Result{RequeueAfter: p.after}, err
	}
	for _, s := range []step{
		r.addFinalizer,
		r.findVMI,
		r.ensureData,
		r.takeRequests,
		r.countFailures,
		r.decide,
		r.keepTypes,
		r.start,
		r.keepTopology,
		r.updateLive,
		r.checkRestart,
		r.showStatus,
	} {
		if err = s(ctx, p); err != nil {
			break
		}
	}
	// What was learnt is written before the VMI goes: it may be all that is left of it.
	if err = errors.Join(err, p.err, r.save(ctx, p)); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: p.after}, errors.Join(r.dropOutdated(ctx, p), r.stop(ctx, p))
}

func (r *Reconciler) begin(ctx context.Context, key types.NamespacedName) (*pass, error) {
	vm := &v1.VirtualMachine{}
	if err := r.Client.Get(ctx, key, vm); err != nil {
		if apierrors.IsNotFound(err) {
			r.writer.Forget(key)
			r.remember(key, func(m *memory) { *m = memory{} })
			return nil, nil
		}
		return nil, err
	}
	if r.writer.Stale(vm) {
		return nil, nil
	}
	strategy, err := vm.RunStrategy()
	if err != nil {
		// Admission refuses this; the VM is left as it is.
		return nil, reconcile.TerminalError(err)
	}
	return &pass{key: key, before: vm, vm: vm.DeepCopy(), strategy: strategy}, nil
}

func (r *Reconciler) save(ctx context.Context, p *pass) error {
	if p.hold {
		return nil
	}
	wrote, err := r.writer.PatchStatus(ctx, p.before, p.vm)
	if err == nil && !wrote && p.do == rerun && p.before.ResourceVersion != "" && !startQueued(p.before) {
		// Somebody was faster: the request to start again is not queued, so the VMI must stay.
		p.do = nothing
	}
	return err
}

// remember changes what is known about a VM's VMI; an empty memory is dropped.
func (r *Reconciler) remember(key types.NamespacedName, change func(*memory)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.known[key]
	change(&m)
	if m == (memory{}) {
		delete(r.known, key)
		return
	}
	r.known[key] = m
}

func (r *Reconciler) recall(key types.NamespacedName) memory {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known[key]
}

// findVMI looks up the VM's VMI: the one of its name whose controller it is.
func (r *Reconciler) findVMI(ctx context.Context, p *pass) error {
	vmi := &v1.VirtualMachineInstance{}
	err := r.Client.Get(ctx, p.key, vmi)
	known := r.recall(p.key)
	switch {
	case apierrors.IsNotFound(err) && known.created != "":
		// Made a moment ago, or gone a moment ago: the cache cannot tell.
		if vmi, err = r.liveVMI(ctx, p.key); err != nil {
			return err
		}
		if vmi == nil || vmi.UID != known.created {
			r.remember(p.key, func(m *memory) { m.created = "" })
		}
	case apierrors.IsNotFound(err):
		vmi = nil
	case err != nil:
		return err
	default:
		r.remember(p.key, func(m *memory) { m.created = "" })
	}
	if vmi == nil {
		r.remember(p.key, func(m *memory) { m.deleted = "" })
		return nil
	}
	return r.claimVMI(ctx, p, vmi, known.deleted)
}

func (r *Reconciler) liveVMI(ctx context.Context, key types.NamespacedName) (*v1.VirtualMachineInstance, error) {
	vmi := &v1.VirtualMachineInstance{}
	if err := r.Live.Get(ctx, key, vmi); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return vmi, nil
}

// claimVMI takes a VMI as the VM's own, adopting it when it has no controller.
func (r *Reconciler) claimVMI(ctx context.Context, p *pass, vmi *v1.VirtualMachineInstance, deleted types.UID) error {
	if metav1.GetControllerOf(vmi) == nil && vmi.DeletionTimestamp == nil && p.vm.DeletionTimestamp == nil {
		if err := r.adopt(ctx, p, vmi); err != nil {
			return err
		}
	}
	if !metav1.IsControlledBy(vmi, p.vm) {
		p.failure = &failure{reasonCreateFailed, "a VirtualMachineInstance of this name exists that does not belong to this VM; delete it or rename the VM"}
		return nil
	}
	p.vmi = vmi
	p.going = vmi.DeletionTimestamp != nil || deleted == vmi.UID
	return nil
}

func (r *Reconciler) adopt(ctx context.Context, p *pass, vmi *v1.VirtualMachineInstance) error {
	owned := vmi.DeepCopy()
	owned.OwnerReferences = append(owned.OwnerReferences, *metav1.NewControllerRef(p.vm, v1.VirtualMachineGroupVersionKind))
	patch := client.MergeFromWithOptions(vmi.DeepCopy(), client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, owned, patch); err != nil {
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return nil
		}
		return err
	}
	*vmi = *owned
	return nil
}
