// Package nodelease is how virt-handler tells that it is alive, and how virt-controller reads it: one Lease for each node in the install
// namespace. Renewing it costs the API server much less than a write of the Node, which everybody watches.
package nodelease

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
)

const (
	// Prefix is what the names begin with. A rule of admission holds each virt-handler to its own.
	Prefix = "virt-handler-"
	// Duration is how long a virt-handler may be silent (contract).
	Duration = 5 * time.Minute
	// maxName is what Kubernetes takes as a name.
	maxName = 253
)

// Name is the name of a node's lease.
func Name(node string) string {
	name := Prefix + node
	if len(name) <= maxName {
		return name
	}
	sum := sha256.Sum256([]byte(node))
	return strings.TrimRight(name[:maxName-17], "-.") + "-" + hex.EncodeToString(sum[:8])
}

// Labels find the leases of nodes among others in the namespace.
func Labels() map[string]string { return map[string]string{v1.AppLabel: "virt-handler"} }

// New is the first lease of a node; it goes with its Node.
func New(namespace string, node *corev1.Node, renewed metav1.MicroTime) *coordinationv1.Lease {
	seconds := int32(Duration / time.Second)
	holder := node.Name
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: Name(node.Name), Labels: Labels(),
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}},
		},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds, AcquireTime: &renewed, RenewTime: &renewed},
	}
}

// Node is the node that a lease is of, "" if it is none of ours: its name must be that of its holder.
func Node(lease *coordinationv1.Lease) string {
	if h := lease.Spec.HolderIdentity; h != nil && lease.Name == Name(*h) {
		return *h
	}
	return ""
}
