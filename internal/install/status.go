package install

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Component is one row of `virtctl status`.
type Component struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	Desired int64  `json:"desired"`
	Ready   int64  `json:"ready"`
	Updated int64  `json:"updated"`
	Version string `json:"version"`
	// Trouble says why it is not ready.
	Trouble string `json:"trouble,omitempty"`
}

// Healthy tells whether every pod is ready at the newest template.
func (c Component) Healthy() bool {
	return c.Trouble == "" && c.Ready >= c.Desired && c.Updated >= c.Desired && c.Desired > 0
}

// Status is the state of an installation.
type Status struct {
	Namespace  string      `json:"namespace"`
	Installed  bool        `json:"installed"`
	Healthy    bool        `json:"healthy"`
	Verdict    string      `json:"verdict"`
	Phase      string      `json:"phase,omitempty"`
	Version    string      `json:"version,omitempty"`
	Emulation  bool        `json:"emulation"`
	Components []Component `json:"components"`
	Nodes      []Node      `json:"nodes"`
	VMs        Count       `json:"virtualMachines"`
	Storage    *Storage    `json:"storage,omitempty"`
}

// Node says whether VMs can run there.
type Node struct {
	Name        string `json:"name"`
	Schedulable bool   `json:"schedulable"`
	KVM         bool   `json:"kvm"`
}

// Count counts virtual machines and the ones that run.
type Count struct {
	Total   int `json:"total"`
	Running int `json:"running"`
}

// Status reads the whole state of the installation.
func (i *Installer) Status(ctx context.Context) (*Status, error) {
	out := &Status{Namespace: i.Namespace, Components: []Component{}, Nodes: []Node{}}
	kv, err := i.dynamic.Resource(KubeVirtResource).Namespace(i.Namespace).Get(ctx, kubeVirtName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		out.Verdict = "not installed in namespace " + i.Namespace + ": run `virtctl install`"
		return out, nil
	case err != nil:
		return nil, i.explain(fmt.Errorf("read the KubeVirt resource: %w", err))
	}
	out.Installed = true
	out.Phase, _, _ = unstructured.NestedString(kv.Object, "status", "phase")
	out.Version, _, _ = unstructured.NestedString(kv.Object, "status", "observedKubeVirtVersion")
	out.Emulation, _, _ = unstructured.NestedBool(kv.Object, "spec", "configuration", "developerConfiguration", "useEmulation")
	if err := i.components(ctx, out); err != nil {
		return nil, err
	}
	if err := i.nodes(ctx, out); err != nil {
		return nil, err
	}
	if out.Storage, err = i.storageStatus(ctx); err != nil {
		return nil, err
	}
	i.count(ctx, out)
	out.judge(kv)
	return out, nil
}

func (s *Status) judge(kv *unstructured.Unstructured) {
	var troubles []string
	for _, c := range s.Components {
		if c.Healthy() {
			continue
		}
		text := fmt.Sprintf("%s has %d of %d pods ready", c.Name, c.Ready, c.Desired)
		if c.Trouble != "" {
			text = c.Name + ": " + c.Trouble
		}
		troubles = append(troubles, text)
	}
	if status, message := conditionText(kv, "Degraded"); status == "True" {
		troubles = append(troubles, message)
	}
	if status, message := conditionText(kv, "Available"); status != "True" && len(troubles) == 0 {
		troubles = append(troubles, "not available: "+message)
	}
	if s.Storage != nil && s.Storage.Trouble != "" {
		troubles = append(troubles, "data importer: "+s.Storage.Trouble)
	}
	usable := 0
	for _, n := range s.Nodes {
		if n.Schedulable {
			usable++
		}
	}
	if usable == 0 {
		troubles = append(troubles, "no node can run VMs")
	}
	s.Healthy = len(troubles) == 0
	if s.Healthy {
		s.Verdict = fmt.Sprintf("healthy: %d of %d VMs run on %d nodes", s.VMs.Running, s.VMs.Total, usable)
		return
	}
	s.Verdict = "not healthy: " + strings.Join(troubles, "; ")
}

func (i *Installer) components(ctx context.Context, out *Status) error {
	only := metav1.ListOptions{LabelSelector: "app.kubernetes.io/part-of=virtctl"}
	pods, err := i.dynamic.Resource(podResource).Namespace(i.Namespace).List(ctx, only)
	if err != nil {
		return i.explain(fmt.Errorf("read the platform's pods: %w", err))
	}
	deployments, err := i.dynamic.Resource(deploymentResource).Namespace(i.Namespace).List(ctx, only)
	if err != nil {
		return i.explain(fmt.Errorf("read the deployments: %w", err))
	}
	daemonSets, err := i.dynamic.Resource(daemonSetResource).Namespace(i.Namespace).List(ctx, only)
	if err != nil {
		return i.explain(fmt.Errorf("read the daemon sets: %w", err))
	}
	for k := range deployments.Items {
		out.Components = append(out.Components, component(&deployments.Items[k], pods.Items, "replicas", "readyReplicas", "updatedReplicas"))
	}
	for k := range daemonSets.Items {
		out.Components = append(out.Components, component(&daemonSets.Items[k], pods.Items, "desiredNumberScheduled", "numberReady", "updatedNumberScheduled"))
	}
	return nil
}

func component(obj *unstructured.Unstructured, pods []unstructured.Unstructured, desired, ready, updated string) Component {
	number := func(fields ...string) int64 {
		n, _, _ := unstructured.NestedInt64(obj.Object, fields...)
		return n
	}
	c := Component{
		Name: obj.GetName(), Kind: obj.GetKind(),
		Desired: number("status", desired), Ready: number("status", ready), Updated: number("status", updated),
	}
	if want := number("spec", "replicas"); want > 0 {
		c.Desired = want
	}
	containers, _, _ := unstructured.NestedSlice(obj.Object, "spec", "template", "spec", "containers")
	if len(containers) > 0 {
		if first, ok := containers[0].(map[string]any); ok {
			image, _ := first["image"].(string)
			c.Version = image[strings.LastIndex(image, ":")+1:]
		}
	}
	for k := range pods {
		if pods[k].GetLabels()["app.kubernetes.io/component"] == c.Name {
			if trouble := podTrouble(&pods[k]); trouble != "" {
				c.Trouble = trouble
			}
		}
	}
	return c
}

func (i *Installer) nodes(ctx context.Context, out *Status) error {
	nodes, err := i.dynamic.Resource(nodeResource).List(ctx, metav1.ListOptions{})
	if err != nil {
		return i.explain(fmt.Errorf("read the nodes: %w", err))
	}
	for k := range nodes.Items {
		node := &nodes.Items[k]
		kvm, _, _ := unstructured.NestedString(node.Object, "status", "allocatable", "devices.kubevirt.io/kvm")
		out.Nodes = append(out.Nodes, Node{
			Name: node.GetName(), KVM: kvm != "" && kvm != "0",
			Schedulable: node.GetLabels()["kubevirt.io/schedulable"] == "true",
		})
	}
	return nil
}

// count leaves zeros when VMs may not be listed: that is no fault of the platform.
func (i *Installer) count(ctx context.Context, out *Status) {
	vms, err := i.dynamic.Resource(vmResource).List(ctx, metav1.ListOptions{})
	if err != nil {
		return
	}
	out.VMs.Total = len(vms.Items)
	for k := range vms.Items {
		if s, _, _ := unstructured.NestedString(vms.Items[k].Object, "status", "printableStatus"); s == "Running" {
			out.VMs.Running++
		}
	}
}
