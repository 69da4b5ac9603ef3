// Package node watches over nodes whose virt-handler has gone silent: nothing new is scheduled there, and guests that have
// lost their pod with the node are reported as failed.
package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
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

	"virtctl/internal/nodelease"
	"virtctl/internal/server/controller/index"
	"virtctl/internal/server/writer"
)

const (
	// silence is how long a virt-handler may be silent; it renews its lease every two minutes.
	silence = nodelease.Duration
	// recheck is how often the guests of a silent node are looked at: that their pods go is no event of the node.
	recheck = time.Minute
	// reasonUnresponsive is the reason of the events and of the guests' failure.
	reasonUnresponsive = "NodeUnresponsive"
)

// Reconciler reconciles nodes.
type Reconciler struct {
	Client   client.Client
	Recorder events.EventRecorder
	// Namespace is where the nodes' leases are.
	Namespace string
	Now       func() time.Time

	nodes, vmis *writer.Writer
}

// New gives a Reconciler.
func New(c client.Client, recorder events.EventRecorder, namespace string) *Reconciler {
	return &Reconciler{Client: c, Recorder: recorder, Namespace: namespace, Now: time.Now, nodes: writer.New(c), vmis: writer.New(c)}
}

// Reconcile looks at one node.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	node := &corev1.Node{}
	err := r.Client.Get(ctx, req.NamespacedName, node)
	if apierrors.IsNotFound(err) {
		r.nodes.Forget(req.NamespacedName)
		return r.failGuests(ctx, req.Name, "the node is gone")
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	if r.nodes.Stale(node) {
		return reconcile.Result{}, nil
	}
	beat, managed := heartbeat(node)
	renewed, err := r.renewed(ctx, node)
	if err != nil {
		return reconcile.Result{}, err
	}
	if !managed && renewed.IsZero() {
		return reconcile.Result{}, nil
	}
	// A virt-handler of an earlier version has no lease.
	if renewed.After(beat) {
		beat = renewed
	}
	age := r.Now().Sub(beat)
	if age < silence {
		return reconcile.Result{RequeueAfter: silence - age}, nil
	}
	if err := r.closeNode(ctx, node, age); err != nil {
		return reconcile.Result{}, err
	}
	return r.failGuests(ctx, node.Name, fmt.Sprintf("virt-handler on the node was last heard of at %s", beat.UTC().Format(time.RFC3339)))
}

// renewed tells when the node's lease was last renewed; zero if it has none, or one that was made for another node of its name.
func (r *Reconciler) renewed(ctx context.Context, node *corev1.Node) (time.Time, error) {
	lease := &coordinationv1.Lease{}
	err := r.Client.Get(ctx, types.NamespacedName{Namespace: r.Namespace, Name: nodelease.Name(node.Name)}, lease)
	if apierrors.IsNotFound(err) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read the lease of node %s: %w", node.Name, err)
	}
	if lease.Spec.RenewTime == nil || nodelease.Node(lease) != node.Name {
		return time.Time{}, nil
	}
	return lease.Spec.RenewTime.Time, nil
}

// ofLease is the node that a lease is of.
func ofLease(_ context.Context, obj client.Object) []reconcile.Request {
	lease, ok := obj.(*coordinationv1.Lease)
	if !ok || nodelease.Node(lease) == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: nodelease.Node(lease)}}}
}

// heartbeat reads when virt-handler last wrote about itself. Nodes that never had one do not concern us.
func heartbeat(node *corev1.Node) (time.Time, bool) {
	text, ok := node.Annotations[v1.VirtHandlerHeartbeat]
	if !ok {
		return time.Time{}, false
	}
	// virt-handler writes RFC 3339, older ones quoted as JSON does; what does not parse counts as never.
	if len(text) >= 2 && text[0] == '"' {
		text = text[1 : len(text)-1]
	}
	beat, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, true
	}
	return beat, true
}

// closeNode keeps new guests away from the node.
func (r *Reconciler) closeNode(ctx context.Context, node *corev1.Node, age time.Duration) error {
	if node.Labels[v1.NodeSchedulable] == "false" {
		return nil
	}
	closed := node.DeepCopy()
	if closed.Labels == nil {
		closed.Labels = map[string]string{}
	}
	closed.Labels[v1.NodeSchedulable] = "false"
	wrote, err := r.nodes.Patch(ctx, node, closed)
	if err != nil {
		return fmt.Errorf("mark node %s unschedulable for VMs: %w", node.Name, err)
	}
	if wrote {
		r.Recorder.Eventf(node, nil, corev1.EventTypeWarning, reasonUnresponsive, "Close",
			"virt-handler has not reported for %s; no new VMs are scheduled here", age.Round(time.Second))
	}
	return nil
}

// failGuests reports the guests of a silent node whose pods are gone.
func (r *Reconciler) failGuests(ctx context.Context, node, why string) (reconcile.Result, error) {
	var list v1.VirtualMachineInstanceList
	if err := r.Client.List(ctx, &list, client.MatchingFields{index.Node: node}); err != nil {
		return reconcile.Result{}, fmt.Errorf("list the VMs on node %s: %w", node, err)
	}
	var failures []error
	left := false
	for i := range list.Items {
		vmi := &list.Items[i]
		if vmi.IsFinal() {
			continue
		}
		left = true
		if err := r.failGuest(ctx, vmi, why); err != nil {
			failures = append(failures, err)
		}
	}
	if err := errors.Join(failures...); err != nil {
		return reconcile.Result{}, err
	}
	if left {
		return reconcile.Result{RequeueAfter: recheck}, nil
	}
	return reconcile.Result{}, nil
}

func (r *Reconciler) failGuest(ctx context.Context, vmi *v1.VirtualMachineInstance, why string) error {
	pods, err := index.OwnedPods(ctx, r.Client, vmi.Namespace, vmi.UID)
	if err != nil {
		return err
	}
	for i := range pods {
		if p := pods[i].Status.Phase; p != corev1.PodFailed && p != corev1.PodSucceeded {
			// As long as the API server has the pod, the guest may be alive on a node that is only cut off.
			return nil
		}
	}
	failed := vmi.DeepCopy()
	failed.Status.Phase, failed.Status.Reason = v1.Failed, reasonUnresponsive
	failed.Status.PhaseTransitionTimestamps = append(failed.Status.PhaseTransitionTimestamps,
		v1.VirtualMachineInstancePhaseTransitionTimestamp{Phase: v1.Failed, PhaseTransitionTimestamp: metav1.NewTime(r.Now())})
	wrote, err := r.vmis.Patch(ctx, vmi, failed)
	if err != nil {
		return fmt.Errorf("report %s/%s as failed: %w", vmi.Namespace, vmi.Name, err)
	}
	if wrote {
		r.vmis.Forget(types.NamespacedName{Namespace: vmi.Namespace, Name: vmi.Name})
		r.Recorder.Eventf(vmi, nil, corev1.EventTypeWarning, reasonUnresponsive, "Fail", "the guest is lost: %s", why)
	}
	return nil
}

// Setup adds the reconciler to the manager.
func (r *Reconciler) Setup(mgr manager.Manager) error {
	reports := predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return e.ObjectOld.GetAnnotations()[v1.VirtHandlerHeartbeat] != e.ObjectNew.GetAnnotations()[v1.VirtHandlerHeartbeat] ||
			e.ObjectOld.GetLabels()[v1.NodeSchedulable] != e.ObjectNew.GetLabels()[v1.NodeSchedulable]
	}}
	err := builder.ControllerManagedBy(mgr).Named("node").
		For(&corev1.Node{}, builder.WithPredicates(reports)).
		Watches(&coordinationv1.Lease{}, handler.EnqueueRequestsFromMapFunc(ofLease)).
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the node controller: %w", err)
	}
	return nil
}
