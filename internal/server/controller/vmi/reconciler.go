// Package vmi gives every VirtualMachineInstance its launcher pod, tells in its status what becomes of the pod, and takes
// both away. What the guest does is virt-handler's to report.
package vmi

import (
	"context"
	"errors"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/server/writer"
)

// Options is what a Reconciler works with.
type Options struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Live reads from the API server, where an old cache would mislead.
	Live     client.Reader
	Config   *clusterconfig.Source
	Recorder events.EventRecorder
	// LauncherImage and PullSecrets are for launcher pods.
	LauncherImage string
	PullSecrets   []string
	// MountFailures tells why a pod's volumes do not come up; nil knows nothing.
	MountFailures MountFailures
	// DataVolumes tells how far a DataVolume is; nil means that there are none in this cluster.
	DataVolumes DataVolumes
	// Now is the clock.
	Now func() time.Time
}

// MountFailures tells what kubelet last said about volumes it could not bring up for a pod.
type MountFailures interface {
	Of(pod types.UID) (reason, message string)
}

// DataVolumes tells how far the filling of a claim is.
type DataVolumes interface {
	// Progress says whether the DataVolume's claim may be used; why tells what it waits for or that it failed.
	Progress(ctx context.Context, namespace, name string) (ready bool, why string, err error)
}

// Reconciler reconciles VMIs.
type Reconciler struct {
	Options
	writer *writer.Writer

	mu sync.Mutex
	// deleted remembers with which grace period we told a VMI's pods to go, so that an old cache does not make us repeat it.
	deleted map[types.NamespacedName]map[types.UID]int64
	// gated remembers how, and on which version of a VMI's pod, the readiness gate was set.
	gated map[types.NamespacedName]gateVersion
}

type gateVersion struct {
	uid             types.UID
	resourceVersion string
	gate            corev1.ConditionStatus
}

// New gives a Reconciler.
func New(o Options) *Reconciler {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Reconciler{
		Options: o, writer: writer.New(o.Client), deleted: map[types.NamespacedName]map[types.UID]int64{},
		gated: map[types.NamespacedName]gateVersion{},
	}
}

// pass is one reconciliation. Steps change vmi; what differs from before is written once, at the end.
type pass struct {
	before, vmi *v1.VirtualMachineInstance
	// pods are all pods of this VMI; pod is the one the guest runs in, or will.
	pods []corev1.Pod
	pod  *corev1.Pod
	// gate is what the pod's readiness gate is after this pass.
	gate corev1.ConditionStatus
	// after is the soonest time to look again although nothing happened.
	after time.Duration
}

// again asks for another look after d.
func (p *pass) again(d time.Duration) {
	if p.after == 0 || d < p.after {
		p.after = max(d, time.Millisecond)
	}
}

type step func(context.Context, *pass) error

// Reconcile brings one VMI forward.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	p, err := r.begin(ctx, req.NamespacedName)
	if p == nil || err != nil {
		return reconcile.Result{}, err
	}
	for _, s := range []step{
		r.admit,
		r.findPods,
		r.deletePods,
		r.createPod,
		r.advance,
		r.openGate,
		r.showEviction,
		r.plugVolumes,
		r.resize,
		r.showVolumes,
		r.showConditions,
		r.showLauncher,
		r.finalize,
	} {
		if err = s(ctx, p); err != nil {
			break
		}
	}
	if wait := r.settling(p); wait > 0 && err == nil {
		p.again(wait)
		return reconcile.Result{RequeueAfter: p.after}, nil
	}
	_, failed := r.writer.Patch(ctx, p.before, p.vmi)
	if err = errors.Join(err, failed); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: p.after}, nil
}

// begin reads the VMI. It gives nothing when there is nothing to do.
func (r *Reconciler) begin(ctx context.Context, key types.NamespacedName) (*pass, error) {
	vmi := &v1.VirtualMachineInstance{}
	if err := r.Client.Get(ctx, key, vmi); err != nil {
		if apierrors.IsNotFound(err) {
			r.forget(key)
			return nil, nil
		}
		return nil, err
	}
	if r.writer.Stale(vmi) {
		return nil, nil
	}
	return &pass{before: vmi, vmi: vmi.DeepCopy()}, nil
}

func (r *Reconciler) forget(key types.NamespacedName) {
	r.writer.Forget(key)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.deleted, key)
	delete(r.gated, key)
}

func (r *Reconciler) event(vmi *v1.VirtualMachineInstance, kind, reason, action, note string) {
	// The API takes 1 KiB of note at most.
	if len(note) > 1000 {
		note = note[:1000] + "..."
	}
	r.Recorder.Eventf(vmi, nil, kind, reason, action, "%s", note)
}
