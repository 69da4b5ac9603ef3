// Package pods holds what the pods of all components have in common: how they are secured, probed, spread, placed and
// replaced, and how certificates are mounted into them.
package pods

import (
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// PriorityClass keeps the platform running when a node is full.
const PriorityClass = "kubevirt-cluster-critical"

// Server is the container of a role of virt-server.
func Server(name, image string, pull corev1.PullPolicy, role string, args ...string) corev1.Container {
	no, yes := false, true
	return corev1.Container{
		Name: name, Image: image, ImagePullPolicy: pull,
		Command: []string{"/usr/bin/virt-server", role},
		Args:    args,
		Env:     Environment(),
		Ports:   []corev1.ContainerPort{{Name: "metrics", ContainerPort: 8443, Protocol: corev1.ProtocolTCP}},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes, RunAsNonRoot: &yes,
			Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
}

// Environment tells a component where it runs.
func Environment() []corev1.EnvVar {
	field := func(name, path string) corev1.EnvVar {
		return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}}
	}
	return []corev1.EnvVar{
		field("NAMESPACE", "metadata.namespace"), field("POD_NAME", "metadata.name"),
		field("POD_IP", "status.podIP"), field("NODE_NAME", "spec.nodeName"),
	}
}

// HTTPSProbe asks a server whether it is well.
func HTTPSProbe(path string, port int) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Scheme: corev1.URISchemeHTTPS, Port: intstr.FromInt(port), Path: path,
		}},
		// One second, so that a rollout is seen as soon as it is done.
		PeriodSeconds: 1, TimeoutSeconds: 5, FailureThreshold: 5, SuccessThreshold: 1,
	}
}

// Requests is what a component asks of its node.
func Requests(cpu, memory string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
	}}
}

// Surge replaces a pod only after its successor is ready, on one node as well.
func Surge() *appsv1.RollingUpdateDeployment {
	one, none := intstr.FromInt32(1), intstr.FromInt32(0)
	return &appsv1.RollingUpdateDeployment{MaxSurge: &one, MaxUnavailable: &none}
}

// Spread keeps the pods with a label on different nodes where there are several.
func Spread(selector map[string]string) *corev1.Affinity {
	return &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
		PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{
			Weight: 1, PodAffinityTerm: corev1.PodAffinityTerm{
				TopologyKey: "kubernetes.io/hostname", LabelSelector: &metav1.LabelSelector{MatchLabels: selector},
			},
		}},
	}}
}

// Placement is where a user wants pods to be.
type Placement struct {
	NodeSelector map[string]string
	Affinity     *corev1.Affinity
	Tolerations  []corev1.Toleration
}

// Place puts pods where the user wants them, and always on Linux.
func (p Placement) Place(spec *corev1.PodSpec) {
	spec.NodeSelector = map[string]string{"kubernetes.io/os": "linux"}
	maps.Copy(spec.NodeSelector, p.NodeSelector)
	spec.Tolerations = append(spec.Tolerations, p.Tolerations...)
	if p.Affinity != nil {
		spec.Affinity = p.Affinity
	}
}

// Mount is a Secret or a ConfigMap in a pod. Both are optional: a pod starts before they exist and picks them up.
type Mount struct {
	Name, Path string
	// Secret or ConfigMap is the object.
	Secret, ConfigMap string
	// Keys limits what of a Secret is seen; empty means all.
	Keys []string
}

// Add mounts it.
func (m Mount) Add(spec *corev1.PodSpec, c *corev1.Container) {
	optional := true
	volume := corev1.Volume{Name: m.Name}
	if m.Secret != "" {
		volume.Secret = &corev1.SecretVolumeSource{SecretName: m.Secret, Optional: &optional}
		for _, key := range m.Keys {
			volume.Secret.Items = append(volume.Secret.Items, corev1.KeyToPath{Key: key, Path: key})
		}
	} else {
		volume.ConfigMap = &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: m.ConfigMap}, Optional: &optional}
	}
	spec.Volumes = append(spec.Volumes, volume)
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: m.Name, MountPath: m.Path, ReadOnly: true})
}
