// Package workerpod renders the pods that fill claims, and what they need: Services, certificates' Secrets, scratch claims. It is
// pure: the same claim and settings give the same objects.
package workerpod

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	sdkapi "kubevirt.io/controller-lifecycle-operator-sdk/api"
)

// Settings are what the cluster's configuration says about all workers.
type Settings struct {
	Image      string
	PullPolicy corev1.PullPolicy
	Resources  corev1.ResourceRequirements
	Pull       []corev1.LocalObjectReference
	Placement  sdkapi.NodePlacement
	Overhead   string
	Proxy      Proxy
	TLS        TLS
	// InsecureRegistries are hosts whose certificate need not hold.
	InsecureRegistries []string
}

// Proxy is how importers reach the outside.
type Proxy struct {
	HTTP, HTTPS, No string
	// Bundle is a ConfigMap with authorities to trust, in the importer's namespace.
	Bundle string
}

// TLS is what upload servers accept.
type TLS struct {
	Ciphers    string
	MinVersion string
}

// DefaultResources are a worker's when CDIConfig says nothing.
func DefaultResources() corev1.ResourceRequirements {
	return corev1.ResourceRequirements{
		Limits: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("750m"), corev1.ResourceMemory: resource.MustParse("600M"),
		},
		Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("60M"),
		},
	}
}
