// Package components renders every object of an installation, as typed constructors. Rendering is a pure function of
// Options; the golden files in testdata are what a cluster gets.
package components

import (
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	v1 "kubevirt.io/api/core/v1"
)

// Options is what an installation may choose.
type Options struct {
	// Namespace everything lives in.
	Namespace string
	// Registry and Tag name the images: <registry>/virt-server:<tag>.
	Registry, Tag string
	PullPolicy    corev1.PullPolicy
	PullSecrets   []corev1.LocalObjectReference
	// Replicas of the Deployments: two where there is more than one node to run on.
	Replicas int32
	// Infra places the Deployments, Workloads the DaemonSet.
	Infra, Workloads *v1.NodePlacement
	// CABundle is the platform's certificate authority, PEM.
	CABundle  []byte
	Verbosity int
	// MigrationNetwork is the NetworkAttachmentDefinition guests travel over; empty means the pod network.
	MigrationNetwork string
}

// Labels every installed object carries: the operator watches and prunes by them.
const (
	ManagedByLabel = "app.kubernetes.io/managed-by"
	ManagedBy      = "virt-operator"
)

func labels(component string) map[string]string {
	return map[string]string{
		ManagedByLabel:                ManagedBy,
		"app.kubernetes.io/part-of":   "virtctl",
		"app.kubernetes.io/component": component,
		"kubevirt.io":                 component,
	}
}

func (o Options) Meta(name, component string) metav1.ObjectMeta {
	l := labels(component)
	return metav1.ObjectMeta{Name: name, Namespace: o.Namespace, Labels: l}
}

func (o Options) clusterMeta(name, component string) metav1.ObjectMeta {
	m := o.Meta(name, component)
	m.Namespace = ""
	return m
}

func (o Options) image(name string) string { return o.Registry + "/" + name + ":" + o.Tag }

// LauncherImage is the image of the pods VMs run in.
func (o Options) LauncherImage() string { return o.image("virt-launcher") }

// Static lists what does not depend on anything being ready: accounts, permissions, services, policies. The rules on
// subresources, by role name, come from the table virt-api serves its routes from.
func Static(o Options, subresources map[string][]rbacv1.PolicyRule) []runtime.Object {
	out := Accounts(o)
	out = append(out, UserRoles(o, subresources)...)
	out = append(out, Services(o)...)
	out = append(out, NodeRestriction(o)...)
	return append(out, DisruptionBudgets(o)...)
}

// Bootstrap lists what `virtctl install` applies itself, beside the definition of the KubeVirt kind: everything the operator
// needs to run.
func Bootstrap(o Options) []runtime.Object {
	out := []runtime.Object{Namespace(o), PriorityClass(o)}
	out = append(out, OperatorAccount(o)...)
	out = append(out, Operator(o))
	return out
}

// Namespace is where the platform lives. Its node agent is privileged, so the namespace allows that; VMs do not need it.
func Namespace(o Options) runtime.Object {
	meta := o.clusterMeta(o.Namespace, OperatorName)
	for _, mode := range []string{"enforce", "audit", "warn"} {
		meta.Labels["pod-security.kubernetes.io/"+mode] = "privileged"
	}
	return &corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: meta}
}
