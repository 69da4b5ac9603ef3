package obstacle

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	kubevirtv1 "kubevirt.io/api/core/v1"
)

// Candidate is a node and whether it could take the machine.
type Candidate struct {
	Node     string   `json:"node"`
	Suitable bool     `json:"suitable"`
	Why      []string `json:"why,omitempty"`
	// FreeCPU and FreeMemory are what nobody has asked for yet; empty when the pods could not be read.
	FreeCPU    string `json:"freeCPU,omitempty"`
	FreeMemory string `json:"freeMemory,omitempty"`
}

// Candidates judges every node for the machine in the pod. wanted are labels that the new node must have besides; pods are all pods of
// the cluster, nil if they could not be read.
func Candidates(pod *corev1.Pod, wanted map[string]string, nodes []corev1.Node, pods []corev1.Pod) []Candidate {
	var all []Candidate
	for i := range nodes {
		node := &nodes[i]
		c := Candidate{Node: node.Name, Why: unfit(pod, wanted, node)}
		if pods != nil {
			c.room(pod, node, pods)
		}
		c.Suitable = len(c.Why) == 0
		all = append(all, c)
	}
	slices.SortStableFunc(all, func(a, b Candidate) int {
		if a.Suitable != b.Suitable {
			if a.Suitable {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Node, b.Node)
	})
	return all
}

func unfit(pod *corev1.Pod, wanted map[string]string, node *corev1.Node) []string {
	if node.Name == pod.Spec.NodeName {
		return []string{"it runs there now"}
	}
	var why []string
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
			why = append(why, "the node is not ready: "+c.Message)
		}
	}
	if node.Spec.Unschedulable {
		why = append(why, fmt.Sprintf("it is cordoned; undo that with \"virtctl node uncordon %s\"", node.Name))
	}
	if node.Labels[kubevirtv1.NodeSchedulable] != "true" {
		why = append(why, "virt-handler is not ready there; see \"virtctl status\"")
	}
	for _, selector := range []map[string]string{pod.Spec.NodeSelector, wanted} {
		for key, value := range selector {
			if key != kubevirtv1.NodeSchedulable && node.Labels[key] != value {
				why = append(why, fmt.Sprintf("it does not have the label %s=%s", key, value))
			}
		}
	}
	if !affine(pod, node) {
		why = append(why, "the machine's node affinity excludes it")
	}
	for _, t := range node.Spec.Taints {
		hard := t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
		if hard && t.Key != corev1.TaintNodeUnschedulable && !slices.ContainsFunc(pod.Spec.Tolerations, func(o corev1.Toleration) bool { return tolerates(o, t) }) {
			why = append(why, fmt.Sprintf("the machine does not tolerate its taint %s", t.ToString()))
		}
	}
	slices.Sort(why)
	return slices.Compact(why)
}

func tolerates(o corev1.Toleration, t corev1.Taint) bool {
	if o.Effect != "" && o.Effect != t.Effect || o.Key != "" && o.Key != t.Key {
		return false
	}
	return o.Operator == corev1.TolerationOpExists || o.Key != "" && o.Value == t.Value
}

// affine tells whether the node is among those the pod's affinity requires.
func affine(pod *corev1.Pod, node *corev1.Node) bool {
	a := pod.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return true
	}
	return slices.ContainsFunc(a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms, func(t corev1.NodeSelectorTerm) bool {
		fields := labels.Set{"metadata.name": node.Name}
		return len(t.MatchExpressions)+len(t.MatchFields) > 0 && all(t.MatchExpressions, node.Labels) && all(t.MatchFields, fields)
	})
}

func all(requirements []corev1.NodeSelectorRequirement, set labels.Set) bool {
	for _, r := range requirements {
		operator := map[corev1.NodeSelectorOperator]selection.Operator{
			corev1.NodeSelectorOpIn: selection.In, corev1.NodeSelectorOpNotIn: selection.NotIn, corev1.NodeSelectorOpExists: selection.Exists,
			corev1.NodeSelectorOpDoesNotExist: selection.DoesNotExist, corev1.NodeSelectorOpGt: selection.GreaterThan, corev1.NodeSelectorOpLt: selection.LessThan,
		}[r.Operator]
		parsed, err := labels.NewRequirement(r.Key, operator, r.Values)
		if err != nil || !parsed.Matches(set) {
			return false
		}
	}
	return true
}

// room compares what is free on the node with what the pod asks for.
func (c *Candidate) room(pod *corev1.Pod, node *corev1.Node, pods []corev1.Pod) {
	free := node.Status.Allocatable.DeepCopy()
	if free == nil {
		return
	}
	used := int64(0)
	for i := range pods {
		p := &pods[i]
		if p.Spec.NodeName != node.Name || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		used++
		for name, amount := range requests(p) {
			left := free[name]
			left.Sub(amount)
			free[name] = left
		}
	}
	c.FreeCPU, c.FreeMemory = free.Cpu().String(), mebibytes(*free.Memory())
	if node.Name == pod.Spec.NodeName {
		return
	}
	for name, amount := range requests(pod) {
		if left := free[name]; left.Cmp(amount) < 0 {
			c.Why = append(c.Why, fmt.Sprintf("it has %s of %s free, the machine needs %s", show(name, left), name, show(name, amount)))
		}
	}
	if limit := node.Status.Allocatable.Pods(); limit != nil && limit.Value() > 0 && used >= limit.Value() {
		c.Why = append(c.Why, fmt.Sprintf("it runs as many pods as it may: %d", used))
	}
	slices.Sort(c.Why)
}

func requests(pod *corev1.Pod) corev1.ResourceList {
	sum := corev1.ResourceList{}
	for i := range pod.Spec.Containers {
		for name, amount := range pod.Spec.Containers[i].Resources.Requests {
			total := sum[name]
			total.Add(amount)
			sum[name] = total
		}
	}
	return sum
}

func show(name corev1.ResourceName, q resource.Quantity) string {
	if name == corev1.ResourceMemory || name == corev1.ResourceEphemeralStorage {
		return mebibytes(q)
	}
	return q.String()
}

func mebibytes(q resource.Quantity) string { return fmt.Sprintf("%dMi", max(q.Value(), 0)>>20) }
