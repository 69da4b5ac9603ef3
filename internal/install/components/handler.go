package components

import (
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/install/pods"
)

// probeDir is where the init container leaves what it found out about the node (see `virt-launcher probe`).
const probeDir = "/var/run/virt-probe"

// Handler is the node agent, the only privileged workload: it enters pods' network namespaces and serves device plugins.
func Handler(o Options) *appsv1.DaemonSet {
	yes := true
	root := int64(0)
	privileged := &corev1.SecurityContext{Privileged: &yes, RunAsUser: &root}
	propagation := corev1.MountPropagationHostToContainer
	c := corev1.Container{
		Name: HandlerName, Image: o.image("virt-handler"), ImagePullPolicy: o.PullPolicy,
		Command: []string{"/usr/bin/virt-handler"},
		Args: []string{
			"--node-name=$(NODE_NAME)", "--pod-ip=$(POD_IP)", "--kubelet-dir=/var/lib/kubelet", "--probe-dir=" + probeDir,
			fmt.Sprintf("-v=%d", o.Verbosity),
		},
		Env: pods.Environment(),
		Ports: []corev1.ContainerPort{
			{Name: "metrics", ContainerPort: 8443, Protocol: corev1.ProtocolTCP},
			{Name: "console", ContainerPort: 8186, Protocol: corev1.ProtocolTCP},
			{Name: "migration", ContainerPort: 8188, Protocol: corev1.ProtocolTCP},
		},
		SecurityContext: privileged,
		ReadinessProbe:  pods.HTTPSProbe("/readyz", 8443),
		LivenessProbe:   pods.HTTPSProbe("/healthz", 8443),
		Resources:       pods.Requests("10m", "60Mi"),
		VolumeMounts: []corev1.VolumeMount{
			{Name: "kubelet", MountPath: "/var/lib/kubelet", MountPropagation: &propagation},
			{Name: "probe", MountPath: probeDir, ReadOnly: true},
		},
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
	c.LivenessProbe.PeriodSeconds = 10
	spec := corev1.PodSpec{
		ServiceAccountName: "kubevirt-handler", PriorityClassName: priorityClass, HostPID: true, ImagePullSecrets: o.PullSecrets,
		Tolerations: []corev1.Toleration{{Key: "CriticalAddonsOnly", Operator: corev1.TolerationOpExists}},
		Volumes: []corev1.Volume{
			{Name: "kubelet", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/lib/kubelet"}}},
			{Name: "probe", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		},
		InitContainers: []corev1.Container{prober(o, privileged)},
		// Migrations under way may finish.
		TerminationGracePeriodSeconds: int64Ptr(330),
	}
	place(&spec, o.Workloads)
	addMounts(&spec, &c, []mount{
		{"server-certificates", "/etc/virt-handler/servercertificates", "kubevirt-virt-handler-server-certs"},
		{"migration-client-certificates", "/etc/virt-handler/migrationclientcertificates", "kubevirt-virt-handler-migration-client-certs"},
	}, true)
	spec.Containers = []corev1.Container{c}
	tenth := intstr.FromString("10%")
	return &appsv1.DaemonSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "DaemonSet"},
		ObjectMeta: o.Meta(HandlerName, HandlerName),
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubevirt.io": HandlerName}},
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{
				Type: appsv1.RollingUpdateDaemonSetStrategyType, RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &tenth},
			},
			Template: corev1.PodTemplateSpec{ObjectMeta: handlerMeta(o), Spec: spec},
		},
	}
}

// prober finds out what the node can do, with the programs that VMs will run with.
func prober(o Options, privileged *corev1.SecurityContext) corev1.Container {
	return corev1.Container{
		Name: "virt-launcher", Image: o.LauncherImage(), ImagePullPolicy: o.PullPolicy,
		Command:         []string{"/usr/bin/virt-launcher", "probe", "--out=" + probeDir},
		SecurityContext: privileged,
		Resources:       pods.Requests("10m", "60Mi"),
		VolumeMounts:    []corev1.VolumeMount{{Name: "probe", MountPath: probeDir}},
	}
}

// handlerMeta asks Multus for the migrations' network, as an interface that virt-handler knows by its name.
func handlerMeta(o Options) metav1.ObjectMeta {
	meta := metav1.ObjectMeta{Labels: podLabels(HandlerName)}
	if o.MigrationNetwork != "" {
		meta.Annotations = map[string]string{networksAnnotation: o.MigrationNetwork + "@" + v1.MigrationInterfaceName}
	}
	return meta
}

const networksAnnotation = "k8s.v1.cni.cncf.io/networks"

// HandlerNetwork is the network for migrations that an installed virt-handler asks for, "" if none.
func HandlerNetwork(installed *appsv1.DaemonSet) string {
	return strings.TrimSuffix(installed.Spec.Template.Annotations[networksAnnotation], "@"+v1.MigrationInterfaceName)
}

func int64Ptr(v int64) *int64 { return &v }
