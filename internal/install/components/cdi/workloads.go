package cdi

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"virtctl/internal/cdi/names"
	"virtctl/internal/install/pods"
)

// Where certificates and keys are in the components' pods.
const (
	CertDir          = "/var/run/certs"
	APICertDir       = CertDir + "/" + names.SecretAPICert
	ProxyCertDir     = CertDir + "/" + names.SecretProxyCert
	UploadClientDir  = CertDir + "/" + names.SecretUploadClientCert
	UploadBundleFile = CertDir + "/" + names.BundleUpload + "/" + names.BundleKey
	SigningKeyDir    = CertDir + "/" + names.SecretSigningKey
)

// SecretControllerCert is what cdi-deployment serves its metrics with.
const SecretControllerCert = "cdi-controller-certs"

// APIServer is the Deployment of the token API, the way in to uploads and the webhooks.
func APIServer(o Options) *appsv1.Deployment {
	c := server(o, names.DeploymentAPIServer, "cdi-apiserver", "--port=8443", o.verbosity())
	c.Resources = pods.Requests("5m", "40Mi")
	d := deployment(o, names.DeploymentAPIServer, names.AccountAPIServer, c, append(uploadMounts(),
		pods.Mount{Name: "server-cert", Path: APICertDir, Secret: names.SecretAPICert},
		pods.Mount{Name: "signing-key", Path: SigningKeyDir, Secret: names.SecretSigningKey},
	))
	d.Spec.Template.Spec.TerminationGracePeriodSeconds = seconds(drain)
	return d
}

// UploadProxy is the Deployment of the way in for uploads from outside.
func UploadProxy(o Options) *appsv1.Deployment {
	c := server(o, names.DeploymentUploadProxy, "cdi-uploadproxy", "--port=8443", o.verbosity())
	c.Resources = pods.Requests("5m", "30Mi")
	d := deployment(o, names.DeploymentUploadProxy, names.AccountUploadProxy, c, append(uploadMounts(),
		pods.Mount{Name: "server-cert", Path: ProxyCertDir, Secret: names.SecretProxyCert},
		// Who only checks tokens has no business with the key that makes them.
		pods.Mount{Name: "signing-key", Path: SigningKeyDir, Secret: names.SecretSigningKey, Keys: []string{names.SigningKeyPublic}},
	))
	d.Spec.Template.Spec.TerminationGracePeriodSeconds = seconds(drain)
	return d
}

// drain is how long uploads may go on when their proxy is replaced, in seconds.
const drain = 330

func seconds(v int64) *int64 { return &v }

func uploadMounts() []pods.Mount {
	return []pods.Mount{
		{Name: "upload-client", Path: UploadClientDir, Secret: names.SecretUploadClientCert},
		{Name: "upload-ca", Path: CertDir + "/" + names.BundleUpload, ConfigMap: names.BundleUpload},
	}
}

// Controller is the Deployment of the controllers of claims, DataVolumes and their like.
func Controller(o Options) *appsv1.Deployment {
	c := server(o, names.DeploymentController, "cdi-controller", "--port=8443", "--worker-image="+o.WorkerImage(),
		"--image-pull-policy="+string(o.PullPolicy), o.verbosity())
	c.LivenessProbe = pods.HTTPSProbe("/healthz", 8443)
	c.LivenessProbe.FailureThreshold = 8
	c.Resources = pods.Requests("10m", "60Mi")
	return deployment(o, names.DeploymentController, names.AccountController, c, []pods.Mount{
		{Name: "certificates", Path: "/etc/cdi-controller/certificates", Secret: SecretControllerCert},
	})
}

// Operator is the Deployment of the operator itself; `virtctl install` applies it.
func Operator(o Options) *appsv1.Deployment {
	c := server(o, names.DeploymentOperator, "cdi-operator")
	c.Env = append(c.Env,
		corev1.EnvVar{Name: "IMAGE_REGISTRY", Value: o.Registry},
		corev1.EnvVar{Name: "IMAGE_TAG", Value: o.Tag},
		corev1.EnvVar{Name: "IMAGE_PULL_POLICY", Value: string(o.PullPolicy)},
	)
	c.Resources = pods.Requests("10m", "50Mi")
	return deployment(o, names.DeploymentOperator, names.AccountOperator, c, nil)
}

func (o Options) verbosity() string { return fmt.Sprintf("-v=%d", o.Verbosity) }

func server(o Options, name, role string, args ...string) corev1.Container {
	c := pods.Server(name, o.image("virt-server"), o.PullPolicy, role, args...)
	c.ReadinessProbe = pods.HTTPSProbe("/readyz", 8443)
	return c
}

func deployment(o Options, name, account string, c corev1.Container, mounts []pods.Mount) *appsv1.Deployment {
	selector := map[string]string{names.LabelComponent: name}
	spec := corev1.PodSpec{
		ServiceAccountName: account, PriorityClassName: pods.PriorityClass, ImagePullSecrets: o.PullSecrets,
		Affinity:    pods.Spread(selector),
		Tolerations: []corev1.Toleration{{Key: "CriticalAddonsOnly", Operator: corev1.TolerationOpExists}},
	}
	if o.PriorityClass != "" {
		spec.PriorityClassName = o.PriorityClass
	}
	o.Infra.Place(&spec)
	for _, m := range mounts {
		m.Add(&spec, &c)
	}
	spec.Containers = []corev1.Container{c}
	replicas := o.replicas(name)
	return &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: o.Meta(name, name),
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: selector},
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: pods.Surge()},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{
				names.LabelComponent: name, names.LabelComp: name, names.LabelPartOf: "virtctl",
				names.LabelApp: names.LabelAppValue, names.LabelPrometheus: names.LabelPrometheusValue,
			}}, Spec: spec},
		},
	}
}

// Workloads are the Deployments in the order of an update: what others rely on first.
func Workloads(o Options) []*appsv1.Deployment {
	return []*appsv1.Deployment{Controller(o), APIServer(o), UploadProxy(o)}
}

// DisruptionBudgets keep one replica through a drain where there are several.
func DisruptionBudgets(o Options) []runtime.Object {
	var out []runtime.Object
	for _, d := range Workloads(o) {
		if *d.Spec.Replicas < 2 {
			continue
		}
		minimum := intstr.FromInt32(*d.Spec.Replicas - 1)
		out = append(out, &policyv1.PodDisruptionBudget{
			TypeMeta:   metav1.TypeMeta{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"},
			ObjectMeta: o.Meta(d.Name+"-pdb", d.Name),
			Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &minimum, Selector: d.Spec.Selector},
		})
	}
	return out
}

// Services are how the API server, users and metrics find the pods.
func Services(o Options) []runtime.Object {
	service := func(name, component string, selector map[string]string) *corev1.Service {
		return &corev1.Service{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
			ObjectMeta: o.Meta(name, component),
			Spec: corev1.ServiceSpec{
				Selector: selector,
				Ports:    []corev1.ServicePort{{Name: "https", Port: 443, TargetPort: intstr.FromInt32(8443), Protocol: corev1.ProtocolTCP}},
			},
		}
	}
	// Workers have the label too, in users' namespaces; here it finds the components.
	metrics := service(names.ServicePrometheus, names.DeploymentOperator, map[string]string{names.LabelPrometheus: names.LabelPrometheusValue})
	metrics.Labels[names.LabelPrometheus] = names.LabelPrometheusValue
	metrics.Spec.ClusterIP = corev1.ClusterIPNone
	metrics.Spec.Ports[0].Name = "metrics"
	return []runtime.Object{
		service(names.ServiceAPI, names.DeploymentAPIServer, map[string]string{names.LabelComponent: names.DeploymentAPIServer}),
		service(names.ServiceUploadProxy, names.DeploymentUploadProxy, map[string]string{names.LabelComponent: names.DeploymentUploadProxy}),
		metrics,
	}
}
