package client

import (
	corev1 "k8s.io/api/core/v1"
	kubevirtv1 "kubevirt.io/api/core/v1"
)

// Names of the API groups of virtual machines.
const (
	Group            = "kubevirt.io"
	SubresourceGroup = "subresources.kubevirt.io"
)

// VirtualMachine is the kind of a virtual machine, running or not.
func VirtualMachine() Kind {
	return Kind{Group: Group, Version: "v1", Kind: "VirtualMachine", Plural: "virtualmachines", Singular: "virtualmachine"}
}

// VirtualMachineInstance is the kind of a running virtual machine.
func VirtualMachineInstance() Kind {
	return Kind{
		Group: Group, Version: "v1", Kind: "VirtualMachineInstance",
		Plural: "virtualmachineinstances", Singular: "virtualmachineinstance",
	}
}

// Migration is the kind of a live migration.
func Migration() Kind {
	return Kind{
		Group: Group, Version: "v1", Kind: "VirtualMachineInstanceMigration",
		Plural: "virtualmachineinstancemigrations", Singular: "virtualmachineinstancemigration",
	}
}

// ReplicaSet is the kind of a set of running virtual machines.
func ReplicaSet() Kind {
	return Kind{
		Group: Group, Version: "v1", Kind: "VirtualMachineInstanceReplicaSet",
		Plural: "virtualmachineinstancereplicasets", Singular: "virtualmachineinstancereplicaset",
	}
}

// KubeVirt is the kind of the installation's configuration.
func KubeVirt() Kind {
	return Kind{Group: Group, Version: "v1", Kind: "KubeVirt", Plural: "kubevirts", Singular: "kubevirt"}
}

// Core is a kind of the core API group.
func Core(kind, plural, singular string) Kind {
	return Kind{Version: "v1", Kind: kind, Plural: plural, Singular: singular}
}

// VMs gives the virtual machines of a namespace.
func (c *Client) VMs(namespace string) Resource[kubevirtv1.VirtualMachine] {
	return Of[kubevirtv1.VirtualMachine](c, VirtualMachine(), namespace)
}

// VMIs gives the running virtual machines of a namespace.
func (c *Client) VMIs(namespace string) Resource[kubevirtv1.VirtualMachineInstance] {
	return Of[kubevirtv1.VirtualMachineInstance](c, VirtualMachineInstance(), namespace)
}

// Migrations gives the live migrations of a namespace.
func (c *Client) Migrations(namespace string) Resource[kubevirtv1.VirtualMachineInstanceMigration] {
	return Of[kubevirtv1.VirtualMachineInstanceMigration](c, Migration(), namespace)
}

// ReplicaSets gives the replica sets of a namespace.
func (c *Client) ReplicaSets(namespace string) Resource[kubevirtv1.VirtualMachineInstanceReplicaSet] {
	return Of[kubevirtv1.VirtualMachineInstanceReplicaSet](c, ReplicaSet(), namespace)
}

// KubeVirts gives the installations in a namespace.
func (c *Client) KubeVirts(namespace string) Resource[kubevirtv1.KubeVirt] {
	return Of[kubevirtv1.KubeVirt](c, KubeVirt(), namespace)
}

// Pods gives the pods of a namespace.
func (c *Client) Pods(namespace string) Resource[corev1.Pod] {
	return Of[corev1.Pod](c, Core("Pod", "pods", "pod"), namespace)
}

// Events gives the events of a namespace.
func (c *Client) Events(namespace string) Resource[corev1.Event] {
	return Of[corev1.Event](c, Core("Event", "events", "event"), namespace)
}

// Nodes gives the cluster's nodes.
func (c *Client) Nodes() Resource[corev1.Node] {
	kind := Core("Node", "nodes", "node")
	kind.Cluster = true
	return Of[corev1.Node](c, kind, "")
}

// Namespaces gives the cluster's namespaces.
func (c *Client) Namespaces() Resource[corev1.Namespace] {
	kind := Core("Namespace", "namespaces", "namespace")
	kind.Cluster = true
	return Of[corev1.Namespace](c, kind, "")
}

// Claims gives the persistent volume claims of a namespace.
func (c *Client) Claims(namespace string) Resource[corev1.PersistentVolumeClaim] {
	return Of[corev1.PersistentVolumeClaim](c, Core("PersistentVolumeClaim", "persistentvolumeclaims", "persistentvolumeclaim"), namespace)
}

// Secrets gives the secrets of a namespace.
func (c *Client) Secrets(namespace string) Resource[corev1.Secret] {
	return Of[corev1.Secret](c, Core("Secret", "secrets", "secret"), namespace)
}

// Services gives the services of a namespace.
func (c *Client) Services(namespace string) Resource[corev1.Service] {
	return Of[corev1.Service](c, Core("Service", "services", "service"), namespace)
}
