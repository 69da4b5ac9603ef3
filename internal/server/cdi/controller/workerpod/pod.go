package workerpod

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"virtctl/internal/cdi/names"
)

// Names of volumes.
const (
	volumeData    = "cdi-data-vol"
	volumeScratch = "cdi-scratch-vol"
	volumeCerts   = "cdi-cert-vol"
	volumeProxy   = "cdi-proxy-cert-vol"
	volumeSecret  = "cdi-secret-vol"
	volumeTLS     = "tls-config"
	volumeTmp     = "tmp"
	volumeShared  = "shared-volume"
)

// build collects a worker's pod.
type build struct {
	pod  *corev1.Pod
	main *corev1.Container
}

// base is what all workers have in common: nothing that Pod Security "restricted" would refuse, no token, and a root that
// cannot be written.
func base(claim *corev1.PersistentVolumeClaim, name, component, command string, s *Settings) *build {
	no := false
	b := &build{main: &corev1.Container{
		Name: component, Image: s.Image, ImagePullPolicy: s.PullPolicy, Resources: s.Resources,
		Command:                  []string{names.WorkerBinary, command},
		TerminationMessagePath:   names.Termination,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		SecurityContext:          containerSecurity(),
	}}
	b.pod = &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: claim.Namespace,
			Annotations: map[string]string{names.AnnCreatedBy: "yes"},
			Labels: map[string]string{
				names.LabelApp: names.LabelAppValue, names.LabelComponent: component,
				names.LabelManagedBy: names.LeaseController, names.LabelComp: "storage",
			},
		},
		Spec: corev1.PodSpec{
			RestartPolicy:                corev1.RestartPolicyOnFailure,
			AutomountServiceAccountToken: &no,
			EnableServiceLinks:           &no,
			NodeSelector:                 copied(s.Placement.NodeSelector),
			Tolerations:                  s.Placement.Tolerations,
			Affinity:                     s.Placement.Affinity.DeepCopy(),
			ImagePullSecrets:             s.Pull,
			PriorityClassName:            claim.Annotations[names.AnnPriorityClassName],
			ServiceAccountName:           claim.Annotations[names.AnnPodServiceAccount],
			SecurityContext:              podSecurity(),
		},
	}
	b.mount(volumeTmp, "/tmp", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	b.annotate(claim)
	return b
}

func (b *build) done() *corev1.Pod {
	b.pod.Spec.Containers = append([]corev1.Container{*b.main}, b.pod.Spec.Containers...)
	return b.pod
}

func (b *build) env(name, value string) {
	b.main.Env = append(b.main.Env, corev1.EnvVar{Name: name, Value: value})
}

// given is env for values that may be absent.
func (b *build) given(name, value string) {
	if value != "" {
		b.env(name, value)
	}
}

func (b *build) envFrom(name, secret, key string) {
	b.main.Env = append(b.main.Env, corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{
		SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: secret}, Key: key},
	}})
}

func (b *build) mount(name, path string, source corev1.VolumeSource) {
	b.pod.Spec.Volumes = append(b.pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: source})
	readOnly := source.Secret != nil || source.ConfigMap != nil
	b.main.VolumeMounts = append(b.main.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: path, ReadOnly: readOnly})
}

// claim mounts or attaches a claim, as its volume mode wants.
func (b *build) claim(name string, claim *corev1.PersistentVolumeClaim, dir string, readOnly bool) {
	source := corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim.Name, ReadOnly: readOnly}}
	if !IsBlock(claim) {
		b.mount(name, dir, source)
		return
	}
	b.pod.Spec.Volumes = append(b.pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: source})
	b.main.VolumeDevices = append(b.main.VolumeDevices, corev1.VolumeDevice{Name: name, DevicePath: names.BlockDevice})
}

// metrics opens the port where the controller reads progress.
func (b *build) metrics() {
	b.main.Ports = []corev1.ContainerPort{{Name: "metrics", ContainerPort: names.PortMetrics, Protocol: corev1.ProtocolTCP}}
	b.pod.Labels[names.LabelPrometheus] = names.LabelPrometheusValue
}

// annotate copies what other programs want to see on the pod, and keeps service meshes out: a sidecar would keep it from ending.
func (b *build) annotate(claim *corev1.PersistentVolumeClaim) {
	for _, key := range []string{names.AnnPodNetwork, names.AnnMultusDefaultNetwork} {
		if value := claim.Annotations[key]; value != "" {
			b.pod.Annotations[key] = value
		}
	}
	for key, value := range map[string]string{names.AnnIstioInject: "false", names.AnnLinkerdInject: "disabled"} {
		if own := claim.Annotations[key]; own != "" {
			value = own
		}
		b.pod.Annotations[key] = value
	}
}

// OwnedBy makes an owner reference to a claim, as its controller.
func OwnedBy(claim *corev1.PersistentVolumeClaim) []metav1.OwnerReference {
	return []metav1.OwnerReference{*metav1.NewControllerRef(claim, corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"))}
}

// OwnerUID is whose progress a worker reports: the DataVolume's, or the claim's own.
func OwnerUID(claim *corev1.PersistentVolumeClaim) string {
	if owner := metav1.GetControllerOf(claim); owner != nil {
		return string(owner.UID)
	}
	return string(claim.UID)
}

// IsBlock tells a raw device from a directory.
func IsBlock(claim *corev1.PersistentVolumeClaim) bool {
	return claim.Spec.VolumeMode != nil && *claim.Spec.VolumeMode == corev1.PersistentVolumeBlock
}

func imageSize(claim *corev1.PersistentVolumeClaim) string {
	size := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	return size.String()
}

func preallocation(claim *corev1.PersistentVolumeClaim) string {
	if claim.Annotations[names.AnnPreallocationRequest] == "true" {
		return "true"
	}
	return "false"
}

// overhead is for file systems only: a device has none.
func overhead(claim *corev1.PersistentVolumeClaim, s *Settings) string {
	if IsBlock(claim) {
		return "0"
	}
	return s.Overhead
}

func copied(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]string, len(m))
	for key, value := range m {
		out[key] = value
	}
	return out
}

func podSecurity() *corev1.PodSecurityContext {
	id, yes, onMismatch := int64(names.UID), true, corev1.FSGroupChangeOnRootMismatch
	return &corev1.PodSecurityContext{
		RunAsUser: &id, RunAsGroup: &id, FSGroup: &id, RunAsNonRoot: &yes, FSGroupChangePolicy: &onMismatch,
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

func containerSecurity() *corev1.SecurityContext {
	no, yes, id := false, true, int64(names.UID)
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: &no, RunAsNonRoot: &yes, RunAsUser: &id, RunAsGroup: &id, ReadOnlyRootFilesystem: &yes,
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
}
