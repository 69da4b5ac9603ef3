package node

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/obstacle"
)

// What draining a node does to a machine.
const (
	Moves     = "moves"
	ShutsDown = "shuts down"
	Stays     = "stays"
	External  = "somebody else's to move"
)

// Machine is one machine on the node and what becomes of it.
type Machine struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Effect    string `json:"effect"`
	// Outcome is moved, shut down or gone; empty while it is still there.
	Outcome   string  `json:"outcome,omitempty"`
	To        string  `json:"to,omitempty"`
	Migration string  `json:"migration,omitempty"`
	Seconds   float64 `json:"seconds,omitempty"`
	// Failure is why it is still there.
	Failure   string              `json:"failure,omitempty"`
	Obstacles []obstacle.Obstacle `json:"obstacles,omitempty"`

	uid types.UID
	pod string
}

func (m *Machine) key() string { return m.Namespace + "/" + m.Name }

// survey lists the machines of a node with what draining it does to each.
func survey(ctx context.Context, c *client.Client, node string) ([]*Machine, error) {
	vmis, err := c.VMIs("").List(ctx, client.ListOptions{LabelSelector: kubevirtv1.NodeNameLabel + "=" + node})
	if err != nil {
		return nil, fmt.Errorf("list the machines on node %s: %w", node, err)
	}
	pods, err := c.Pods("").List(ctx, client.ListOptions{
		LabelSelector: kubevirtv1.AppLabel + "=virt-launcher", FieldSelector: "spec.nodeName=" + node,
	})
	if err != nil {
		return nil, fmt.Errorf("list the machines' pods on node %s: %w", node, err)
	}
	fallback := clusterStrategy(ctx, c)
	var all []*Machine
	for i := range vmis.Items {
		vmi := &vmis.Items[i]
		if vmi.IsFinal() {
			continue
		}
		m := judge(vmi, fallback)
		if at := slices.IndexFunc(pods.Items, func(p corev1.Pod) bool {
			owner := metav1.GetControllerOf(&p)
			return owner != nil && owner.UID == vmi.UID && runs(&p)
		}); at >= 0 {
			m.pod = pods.Items[at].Name
		}
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b *Machine) int { return strings.Compare(a.key(), b.key()) })
	return all, nil
}

// clusterStrategy is for machines that name none. Who may not read the configuration is told the default.
func clusterStrategy(ctx context.Context, c *client.Client) kubevirtv1.EvictionStrategy {
	list, err := c.KubeVirts("").List(ctx, client.ListOptions{})
	if err == nil && len(list.Items) > 0 && list.Items[0].Spec.Configuration.EvictionStrategy != nil {
		return *list.Items[0].Spec.Configuration.EvictionStrategy
	}
	return kubevirtv1.EvictionStrategyNone
}

func judge(vmi *kubevirtv1.VirtualMachineInstance, strategy kubevirtv1.EvictionStrategy) *Machine {
	m := &Machine{Namespace: vmi.Namespace, Name: vmi.Name, uid: vmi.UID}
	if vmi.Spec.EvictionStrategy != nil {
		strategy = *vmi.Spec.EvictionStrategy
	}
	switch {
	case strategy == kubevirtv1.EvictionStrategyExternal:
		m.Effect = External
	case strategy == kubevirtv1.EvictionStrategyLiveMigrate && !vmi.IsMigratable():
		m.Effect, m.Obstacles = Stays, obstacle.Of(vmi, nil)
	case strategy == kubevirtv1.EvictionStrategyLiveMigrate, strategy == kubevirtv1.EvictionStrategyLiveMigrateIfPossible && vmi.IsMigratable():
		m.Effect = Moves
	default:
		m.Effect = ShutsDown
		if strategy == kubevirtv1.EvictionStrategyLiveMigrateIfPossible {
			m.Obstacles = obstacle.Of(vmi, nil)
		}
	}
	return m
}
