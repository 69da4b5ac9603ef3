package expose

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
)

// exposed is what a Service is made for.
type exposed struct {
	selector map[string]string
	owner    metav1.OwnerReference
	ports    []corev1.ServicePort
}

// find looks the object up.
func find(ctx context.Context, c *client.Client, word, namespace, name string) (*exposed, error) {
	switch strings.ToLower(word) {
	case "vmirs", "vmirss", "virtualmachineinstancereplicaset", "virtualmachineinstancereplicasets":
		set, err := c.ReplicaSets(namespace).Get(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("cannot expose %s %s: %w", word, name, err)
		}
		if set.Spec.Selector == nil || len(set.Spec.Selector.MatchLabels) == 0 || len(set.Spec.Selector.MatchExpressions) > 0 {
			return nil, problem.New(problem.Conflict, "cannot expose VirtualMachineInstanceReplicaSet %s: a Service needs a selector of match labels only", name)
		}
		return &exposed{
			set.Spec.Selector.MatchLabels, owner(client.ReplicaSet(), set.Name, set.UID), portsOf(&set.Spec.Template.Spec),
		}, nil
	}
	if len(name) > validation.LabelValueMaxLength {
		return nil, problem.Usagef("cannot expose %s: a name longer than %d characters cannot be chosen by a Service", name, validation.LabelValueMaxLength)
	}
	kind, ok := target.KindOf(word)
	if !ok {
		return nil, problem.Usagef("unsupported resource type %q: use vm, vmi or vmirs", word)
	}
	if kind == target.VMI {
		vmi, err := c.VMIs(namespace).Get(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("cannot expose VMI %s: %w", name, target.Explain(ctx, c, client.VMI(namespace, name), err))
		}
		return &exposed{selectorOf(name), owner(client.VirtualMachineInstance(), name, vmi.UID), portsOf(&vmi.Spec)}, nil
	}
	vm, err := c.VMs(namespace).Get(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("cannot expose VM %s: %w", name, target.Explain(ctx, c, client.VM(namespace, name), err))
	}
	found := &exposed{selector: selectorOf(name), owner: owner(client.VirtualMachine(), name, vm.UID)}
	if vm.Spec.Template != nil {
		found.ports = portsOf(&vm.Spec.Template.Spec)
	}
	return found, nil
}

// selectorOf finds the machine's pods by a label that holds its name.
func selectorOf(name string) map[string]string {
	return map[string]string{kubevirtv1.VirtualMachineInstanceIDLabel: name}
}

func owner(kind client.Kind, name string, uid types.UID) metav1.OwnerReference {
	yes := true
	gv := schema.GroupVersion{Group: kind.Group, Version: kind.Version}
	return metav1.OwnerReference{APIVersion: gv.String(), Kind: kind.Kind, Name: name, UID: uid, Controller: &yes, BlockOwnerDeletion: &yes}
}

// portsOf reads the ports that the interface on the pod network lists.
func portsOf(spec *kubevirtv1.VirtualMachineInstanceSpec) []corev1.ServicePort {
	pod := ""
	for _, network := range spec.Networks {
		if network.Pod != nil {
			pod = network.Name
		}
	}
	var ports []corev1.ServicePort
	for _, i := range spec.Domain.Devices.Interfaces {
		if i.Name != pod {
			continue
		}
		for n, p := range i.Ports {
			port := corev1.ServicePort{Name: p.Name, Protocol: corev1.Protocol(p.Protocol), Port: p.Port, TargetPort: intstr.FromInt32(p.Port)}
			if port.Name == "" && len(i.Ports) > 1 {
				port.Name = fmt.Sprintf("port-%d", n+1)
			}
			ports = append(ports, port)
		}
	}
	return ports
}
