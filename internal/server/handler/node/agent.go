// Package node tells the cluster what this node can do, and that its agent is alive. It writes nothing but its own Node.
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

	ready     chan struct{}
	readyOnce sync.Once
	wake      chan struct{}
	beaten    time.Time
	// known are the labels of ours that the node had when we last saw it.
	known map[string]string
}

// NewAgent returns an Agent that calls the node unfit until Registered is called.
func NewAgent(name string, reader client.Reader, writer client.Client, labels func() map[string]string, log logr.Logger) *Agent {
	return &Agent{
		Name: name, Reader: reader, Writer: writer, Labels: labels, Log: log, Now: time.Now,
		ready: make(chan struct{}), wake: make(chan struct{}, 1),
	}
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

// beat writes the heartbeat when it is due, and labels when they differ.
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
	now := a.Now()
	if len(labels) == 0 && now.Sub(a.beaten) < heartbeat {
		return nil
	}
	if err := a.patch(ctx, labels, map[string]any{v1.VirtHandlerHeartbeat: now.UTC().Format(time.RFC3339)}); err != nil {
		return err
	}
	a.beaten = now
	return nil
}

func (a *Agent) wanted() map[string]string {
	wanted := maps.Clone(a.Labels())
	if wanted == nil {
		wanted = map[string]string{}
	}
	wanted[v1.NodeSchedulable] = strconv.FormatBool(a.registered())
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
