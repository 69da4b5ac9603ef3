// Package node tells the cluster what this node can do, and that its agent is alive. It writes nothing but its own Node and its
// own Lease.
package node

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/go-logr/logr"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/nodelease"
)

const (
	// heartbeat is how often the node's lease is renewed; virt-controller gives up on the node after five minutes without.
	heartbeat = 2 * time.Minute
	// registerPatience is how long the kubelet may take to accept our devices before the node is declared unfit.
	registerPatience = 20 * time.Second
	retry            = 5 * time.Second
	farewell         = 3 * time.Second
)

// Options are what an Agent works with.
type Options struct {
	Name string
	// Namespace is where the lease is.
	Namespace string
	Reader    client.Reader
	Writer    client.Client
	// Labels gives the labels that belong on the node now, beside those that Agent manages itself.
	Labels func() map[string]string
	Log    logr.Logger
	Now    func() time.Time
}

// Agent keeps the node's labels and its lease.
type Agent struct {
	Options

	ready     chan struct{}
	readyOnce sync.Once
	wake      chan struct{}
	renewed   time.Time
	// announced tells that this agent has said on the node that it has started.
	announced bool
}

// NewAgent returns an Agent that calls the node unfit until Registered is called.
func NewAgent(o Options) *Agent {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Agent{Options: o, ready: make(chan struct{}), wake: make(chan struct{}, 1)}
}

// Registered tells that the kubelet knows our devices.
func (a *Agent) Registered() {
	a.readyOnce.Do(func() { close(a.ready) })
	a.Changed()
}

func (a *Agent) registered() bool {
	select {
	case <-a.ready:
		return true
	default:
		return false
	}
}

// Changed tells that the labels may have changed.
func (a *Agent) Changed() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Start works until ctx ends, and then declares the node unfit. It belongs to every replica of a manager.
func (a *Agent) Start(ctx context.Context) error {
	a.wait(ctx, a.ready, registerPatience)
	for ctx.Err() == nil {
		next := heartbeat + time.Duration(rand.Int64N(int64(heartbeat/5)))
		if err := a.beat(ctx); err != nil && ctx.Err() == nil {
			a.Log.Error(err, "cannot update the node; trying again", "in", retry)
			next = retry
		}
		a.wait(ctx, a.wake, next)
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	if err := a.patch(last, map[string]any{v1.NodeSchedulable: "false"}, nil); err != nil {
		a.Log.Info("could not declare the node unfit", "reason", err.Error())
	}
	return nil
}

func (a *Agent) wait(ctx context.Context, sign <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-sign:
	}
}

// beat renews the lease when that is due, and writes what the node says of itself when it differs: an idle node writes nothing but its
// lease. The node is read each time, for virt-controller closes one that has been silent.
func (a *Agent) beat(ctx context.Context) error {
	node := &corev1.Node{}
	if err := a.Reader.Get(ctx, types.NamespacedName{Name: a.Name}, node); err != nil {
		return fmt.Errorf("get node %s: %w", a.Name, err)
	}
	now := a.Now()
	// The lease first: a node that is opened again must not look silent.
	if now.Sub(a.renewed) >= heartbeat {
		if err := a.renew(ctx, node, now); err != nil {
			return err
		}
		a.renewed = now
	}
	labels := a.changes(node)
	if len(labels) == 0 && a.announced {
		return nil
	}
	if err := a.patch(ctx, labels, map[string]any{v1.VirtHandlerHeartbeat: now.UTC().Format(time.RFC3339)}); err != nil {
		return err
	}
	a.announced = true
	return nil
}

// changes are the labels that the node lacks, and with nil those that it must not have.
func (a *Agent) changes(node *corev1.Node) map[string]any {
	wanted, labels := a.wanted(), map[string]any{}
	for k, v := range wanted {
		if node.Labels[k] != v {
			labels[k] = v
		}
	}
	for k := range node.Labels {
		if _, ok := wanted[k]; !ok && managed(k) {
			labels[k] = nil
		}
	}
	return labels
}

// renew says that this node's agent is alive.
func (a *Agent) renew(ctx context.Context, node *corev1.Node, now time.Time) error {
	lease := &coordinationv1.Lease{}
	lease.Namespace, lease.Name = a.Namespace, nodelease.Name(a.Name)
	stamp := metav1.NewMicroTime(now)
	body, err := json.Marshal(map[string]any{"spec": map[string]any{"renewTime": stamp, "holderIdentity": a.Name}})
	if err != nil {
		return fmt.Errorf("encode the lease: %w", err)
	}
	err = a.Writer.Patch(ctx, lease, client.RawPatch(types.MergePatchType, body))
	if !apierrors.IsNotFound(err) {
		return wrapLease(lease.Name, err)
	}
	return wrapLease(lease.Name, a.Writer.Create(ctx, nodelease.New(a.Namespace, node, stamp)))
}

func wrapLease(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("renew the lease %s: %w", name, err)
}

func (a *Agent) wanted() map[string]string {
	wanted := maps.Clone(a.Labels())
	if wanted == nil {
		wanted = map[string]string{}
	}
	wanted[v1.NodeSchedulable] = strconv.FormatBool(a.registered())
	return wanted
}

func (a *Agent) patch(ctx context.Context, labels, annotations map[string]any) error {
	metadata := map[string]any{}
	if len(labels) > 0 {
		metadata["labels"] = labels
	}
	if len(annotations) > 0 {
		metadata["annotations"] = annotations
	}
	body, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return fmt.Errorf("encode node patch: %w", err)
	}
	node := &corev1.Node{}
	node.Name = a.Name
	if err := a.Writer.Patch(ctx, node, client.RawPatch(types.MergePatchType, body)); err != nil {
		return fmt.Errorf("update node %s: %w", a.Name, err)
	}
	return nil
}
