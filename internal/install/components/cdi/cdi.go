// Package cdi renders every object of CDI's installation, as typed constructors. Rendering is a pure function of Options;
// the golden files in testdata are what a cluster gets.
package cdi

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"virtctl/internal/cdi/names"
	"virtctl/internal/install/pods"
)

// Options is what an installation may choose.
type Options struct {
	// Namespace everything lives in.
	Namespace string
	// Registry and Tag name the images: <registry>/virt-server:<tag>.
	Registry, Tag string
	PullPolicy    corev1.PullPolicy
	PullSecrets   []corev1.LocalObjectReference
	// Replicas by Deployment; one where nothing is said.
	Replicas map[string]int32
	// Infra places the Deployments.
	Infra pods.Placement
	// PriorityClass of the Deployments; empty means the platform's.
	PriorityClass string
	// CABundle is who signs the certificate of the service cdi-api, PEM.
	CABundle []byte
	// Rendering installs the webhook that fills labelled claims.
	Rendering bool
	// SecurityConstraints tells that the cluster has OpenShift's SecurityContextConstraints.
	SecurityConstraints bool
	Verbosity           int
}

// ManagedBy is the value of the label by which the operator watches and prunes.
const ManagedBy = "cdi-operator"

func labels(component string) map[string]string {
	return map[string]string{
		names.LabelManagedBy: ManagedBy, names.LabelPartOf: "virtctl", names.LabelComp: component, names.LabelComponent: component,
	}
}

// Meta is the metadata of an object of a component in the install namespace.
func (o Options) Meta(name, component string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: o.Namespace, Labels: labels(component)}
}

func (o Options) clusterMeta(name, component string) metav1.ObjectMeta {
	m := o.Meta(name, component)
	m.Namespace = ""
	return m
}

func (o Options) image(name string) string { return o.Registry + "/" + name + ":" + o.Tag }

// WorkerImage is the image of the pods that move bytes.
func (o Options) WorkerImage() string { return o.image("virt-launcher") }

func (o Options) replicas(deployment string) int32 { return max(o.Replicas[deployment], 1) }

// Static lists what does not depend on anything being ready: accounts, permissions, services, budgets.
func Static(o Options) []runtime.Object {
	out := Accounts(o)
	out = append(out, UserRoles(o)...)
	out = append(out, Services(o)...)
	if o.SecurityConstraints {
		out = append(out, SecurityConstraints(o))
	}
	return append(out, DisruptionBudgets(o)...)
}

// Bootstrap lists what `virtctl install` applies itself, beside the definition of the CDI kind: everything the operator
// needs to run. The namespace and the priority class are KubeVirt's.
func Bootstrap(o Options) []runtime.Object {
	return append(OperatorAccount(o), Operator(o))
}
