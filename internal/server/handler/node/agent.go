// Package node tells the cluster what this node can do, and that its agent is alive. It writes nothing but its own Node.
package node

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// heartbeat is how often the node says that it is alive; virt-controller gives up on it after five minutes without.
	heartbeat = 2 * time.Minute
	// registerPatience is how long the kubelet may take to accept our devices before the node is declared unfit.
	registerPatience = 20 * time.Second
	retry            = 5 * time.Second
	farewell         = 3 * time.Second
)

// Agent keeps the node's labels and its heartbeat.
type Agent struct {
	Name   string
	Reader client.Reader
	Writer client.Client
	// Labels gives the labels that belong on the node now, beside those that Agent manages itself.
	Labels func() map[string]string
	Log    logr.Logger
	Now    func() time.Time

	mu         sync.Mutex
	registered bool
	wake       chan struct{}
	// known are the labels of ours that the node had when we last saw it.
	known map[string]string
}

// NewAgent returns an Agent that calls the node unfit until Registered is called.
func NewAgent(name string, reader client.Reader, writer client.Client, labels func() map[string]string, log logr.Logger) *Agent {
	return &Agent{
		Name: name, Reader: reader, Writer: writer, Labels: labels, Log: log, Now: time.Now, wake: make(chan struct{}, 1),
	}
}

// Registered tells that the kubelet knows our devices.
func (a *Agent) Registered() {
	a.mu.Lock()
	a.registered = true
	a.mu.Unlock()
	a.Changed()
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
	a.wait(ctx, registerPatience)
	for ctx.Err() == nil {
		next := heartbeat + time.Duration(rand.Int64N(int64(heartbeat/5)))
		if err := a.beat(ctx); err != nil && ctx.Err() == nil {
			a.Log.Error(err, "cannot update the node; trying again", "in", retry)
			next = retry
		}
		a.wait(ctx, next)
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	if err := a.patch(last, map[string]any{v1.NodeSchedulable: "false"}, nil); err != nil {
		a.Log.Info("could not declare the node unfit", "reason", err.Error())
	}
	return nil
}

func (a *Agent) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-a.wake:
	}
}

// beat writes the heartbeat, and with it the labels that differ.
func (a *Agent) beat(ctx context.Context) error {
	if a.known == nil {
		node := &corev1.Node{}
		if err := a.Reader.Get(ctx, types.NamespacedName{Name: a.Name}, node); err != nil {
			return fmt.Errorf("get node %s: %w", a.Name, err)
		}
		a.remember(node)
	}
	wanted := a.wanted()
	labels := map[string]any{}
	for k, v := range wanted {
		if a.known[k] != v {
			labels[k] = v
		}
	}
	for k := range a.known {
		if _, ok := wanted[k]; !ok {
			labels[k] = nil
		}
	}
	return a.patch(ctx, labels, map[string]any{v1.VirtHandlerHeartbeat: a.Now().UTC().Format(time.RFC3339)})
}

func (a *Agent) wanted() map[string]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	wanted := maps.Clone(a.Labels())
	if wanted == nil {
		wanted = map[string]string{}
	}
	wanted[v1.NodeSchedulable] = fmt.Sprint(a.registered)
	return wanted
}

// remember keeps those of the node's labels that are ours to set.
func (a *Agent) remember(node *corev1.Node) {
	a.known = map[string]string{}
	for k, v := range node.Labels {
		if managed(k) {
			a.known[k] = v
		}
	}
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
	a.remember(node)
	return nil
}
