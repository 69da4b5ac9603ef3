package components

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/install/pods"
)

// Names of the workloads; they are public contract.
const (
	APIName        = "virt-api"
	ControllerName = "virt-controller"
	HandlerName    = "virt-handler"
	OperatorName   = "virt-operator"
	priorityClass  = pods.PriorityClass
	caConfigMap    = "kubevirt-ca"
)

// PriorityClass keeps the platform running when a node is full.
func PriorityClass(o Options) runtime.Object {
	return &schedulingv1.PriorityClass{
		TypeMeta:    metav1.TypeMeta{APIVersion: "scheduling.k8s.io/v1", Kind: "PriorityClass"},
		ObjectMeta:  o.clusterMeta(priorityClass, OperatorName),
		Value:       1_000_000_000,
		Description: "Components without which no virtual machine can be managed.",
	}
}

// API is the Deployment of the subresource API and the webhooks.
func API(o Options) *appsv1.Deployment {
	c := server(o, APIName, "api", "--port=8443")
	c.ReadinessProbe = pods.HTTPSProbe("/readyz", 8443)
	c.Resources = pods.Requests("5m", "60Mi")
	mounts := []mount{
		{"certificates", "/etc/virt-api/certificates", "kubevirt-virt-api-certs"},
		{"handler-client", "/etc/virt-handler/clientcertificates", "kubevirt-virt-handler-certs"},
	}
	d := deployment(o, APIName, "kubevirt-apiserver", c, mounts)
	// Open consoles and screens may drain while a successor serves the new ones.
	d.Spec.Template.Spec.TerminationGracePeriodSeconds = int64Ptr(330)
	return d
}

// Controller is the Deployment of the VM and VMI controllers.
func Controller(o Options) *appsv1.Deployment {
	c := server(o, ControllerName, "controller", "--port=8443", "--launcher-image="+o.LauncherImage(), fmt.Sprintf("-v=%d", o.Verbosity))
	c.ReadinessProbe = pods.HTTPSProbe("/readyz", 8443)
	c.LivenessProbe = pods.HTTPSProbe("/healthz", 8443)
	c.LivenessProbe.FailureThreshold = 8
	c.Resources = pods.Requests("10m", "80Mi")
	return deployment(o, ControllerName, "kubevirt-controller", c, []mount{
		{"certificates", "/etc/virt-controller/certificates", "kubevirt-controller-certs"},
	})
}

// Operator is the Deployment of the operator itself; `virtctl install` applies it.
func Operator(o Options) *appsv1.Deployment {
	c := server(o, OperatorName, "operator")
	c.Env = append(c.Env,
		corev1.EnvVar{Name: "IMAGE_REGISTRY", Value: o.Registry},
		corev1.EnvVar{Name: "IMAGE_TAG", Value: o.Tag},
		corev1.EnvVar{Name: "IMAGE_PULL_POLICY", Value: string(o.PullPolicy)},
	)
	c.Ports = append(c.Ports, corev1.ContainerPort{Name: "webhooks", ContainerPort: 8444, Protocol: corev1.ProtocolTCP})
	c.ReadinessProbe = pods.HTTPSProbe("/readyz", 8443)
	c.Resources = pods.Requests("10m", "60Mi")
	return deployment(o, OperatorName, "kubevirt-operator", c, nil)
}

func server(o Options, name, role string, args ...string) corev1.Container {
	return pods.Server(name, o.image("virt-server"), o.PullPolicy, role, args...)
}

// mount is a certificate Secret in a pod.
type mount struct{ name, path, secret string }

func deployment(o Options, name, account string, c corev1.Container, mounts []mount) *appsv1.Deployment {
	selector := map[string]string{"kubevirt.io": name}
	spec := corev1.PodSpec{
		ServiceAccountName: account, PriorityClassName: priorityClass, ImagePullSecrets: o.PullSecrets,
		Affinity:    pods.Spread(map[string]string{"kubevirt.io": name}),
		Tolerations: []corev1.Toleration{{Key: "CriticalAddonsOnly", Operator: corev1.TolerationOpExists}},
	}
	place(&spec, o.Infra)
	addMounts(&spec, &c, mounts, name != OperatorName)
	spec.Containers = []corev1.Container{c}
	return &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: o.Meta(name, name),
		Spec: appsv1.DeploymentSpec{
			Replicas: &o.Replicas,
			Selector: &metav1.LabelSelector{MatchLabels: selector},
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: pods.Surge()},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: podLabels(name)}, Spec: spec},
		},
	}
}

func podLabels(name string) map[string]string {
	return map[string]string{
		"kubevirt.io": name, "app.kubernetes.io/component": name, "app.kubernetes.io/part-of": "virtctl",
		"prometheus.kubevirt.io": "true",
	}
}

func place(spec *corev1.PodSpec, p *v1.NodePlacement) {
	var wanted pods.Placement
	if p != nil {
		wanted = pods.Placement{NodeSelector: p.NodeSelector, Affinity: p.Affinity, Tolerations: p.Tolerations}
	}
	wanted.Place(spec)
}

func addMounts(spec *corev1.PodSpec, c *corev1.Container, mounts []mount, ca bool) {
	for _, m := range mounts {
		pods.Mount{Name: m.name, Path: m.path, Secret: m.secret}.Add(spec, c)
	}
	if ca {
		pods.Mount{Name: "ca", Path: "/etc/virt-ca", ConfigMap: caConfigMap}.Add(spec, c)
	}
}

// DisruptionBudgets keep one replica through a drain where there are two.
func DisruptionBudgets(o Options) []runtime.Object {
	if o.Replicas < 2 {
		return nil
	}
	var out []runtime.Object
	for _, name := range []string{APIName, ControllerName} {
		minimum := intstr.FromInt32(o.Replicas - 1)
		out = append(out, &policyv1.PodDisruptionBudget{
			TypeMeta:   metav1.TypeMeta{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"},
			ObjectMeta: o.Meta(name+"-pdb", name),
			Spec: policyv1.PodDisruptionBudgetSpec{
				MinAvailable: &minimum, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubevirt.io": name}},
			},
		})
	}
	return out
}

// Services are how webhooks, aggregation and metrics find the pods.
func Services(o Options) []runtime.Object {
	service := func(name string, selector map[string]string, target int32, headless bool) runtime.Object {
		s := &corev1.Service{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
			ObjectMeta: o.Meta(name, APIName),
			Spec: corev1.ServiceSpec{
				Selector: selector,
				Ports:    []corev1.ServicePort{{Name: "https", Port: 443, TargetPort: intstr.FromInt32(target), Protocol: corev1.ProtocolTCP}},
			},
		}
		if headless {
			s.Spec.ClusterIP = corev1.ClusterIPNone
			s.Spec.Ports[0].Name = "metrics"
		}
		return s
	}
	return []runtime.Object{
		service("virt-api", map[string]string{"kubevirt.io": APIName}, 8443, false),
		service("kubevirt-operator-webhook", map[string]string{"kubevirt.io": OperatorName}, 8444, false),
		service("kubevirt-prometheus-metrics", map[string]string{"prometheus.kubevirt.io": "true"}, 8443, true),
	}
}
