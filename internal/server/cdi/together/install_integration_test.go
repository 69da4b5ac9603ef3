//go:build integration

package together

import (
	"context"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
)

// An installation must come to an end with no more rights than it is given, follow what its owner changes, mend what others
// break, and leave nothing behind.
func TestInstallation(t *testing.T) {
	cl := start(t)
	cl.install()
	cl.rollAll()
	waitFor(t, "phase Deployed", func() bool { return cl.cdi().Status.Phase == "Deployed" })
	t.Run("status", cl.status)
	t.Run("configuration", cl.configuration)
	t.Run("placement, replicas and budgets", cl.placement)
	t.Run("drift", cl.drift)
	t.Run("certificates", cl.renewal)
	t.Run("an idle operator writes nothing", cl.idle)
	t.Run("removal", cl.removal)
	t.Run("somebody else's", cl.foreign)
}

func (cl *cluster) status(t *testing.T) {
	s := cl.cdi().Status
	if s.ObservedVersion == "" || s.ObservedVersion != s.TargetVersion || s.OperatorVersion == "" {
		t.Errorf("versions %+v", s)
	}
	for kind, want := range map[string]string{"Available": "True", "Progressing": "False", "Degraded": "False"} {
		found := ""
		for _, c := range s.Conditions {
			if string(c.Type) == kind {
				found = string(c.Status)
			}
		}
		if found != want {
			t.Errorf("condition %s is %q", kind, found)
		}
	}
}

func (cl *cluster) change(t *testing.T, with func(*cdiv1.CDI)) {
	t.Helper()
	cdi := cl.cdi()
	before := cdi.DeepCopy()
	with(cdi)
	must(t, cl.c.Patch(context.Background(), cdi, client.MergeFrom(before)))
}

func (cl *cluster) read(into client.Object, ns, name string) error {
	return cl.c.Get(context.Background(), client.ObjectKey{Namespace: ns, Name: name}, into)
}

// The CDI resource is the authority: what it says is in the CDIConfig, and what is changed there is taken back.
func (cl *cluster) configuration(t *testing.T) {
	config := &cdiv1.CDIConfig{}
	waitFor(t, "the CDIConfig", func() bool { return cl.read(config, "", names.CDIConfig) == nil })
	if _, authority := cl.cdi().Annotations[names.AnnConfigAuthority]; !authority {
		t.Error("the CDI resource is not the authority")
	}
	cl.change(t, func(c *cdiv1.CDI) {
		c.Spec.Config = &cdiv1.CDIConfigSpec{FeatureGates: []string{"HonorWaitForFirstConsumer"}, WebhookPvcRendering: "Enabled"}
	})
	gate := func() bool {
		return cl.read(config, "", names.CDIConfig) == nil && len(config.Spec.FeatureGates) == 1 && config.Spec.Preallocation == nil
	}
	waitFor(t, "the feature gate", gate)
	yes := true
	config.Spec.FeatureGates, config.Spec.Preallocation = nil, &yes
	config.Status.ScratchSpaceStorageClass = "fast"
	must(t, cl.c.Update(context.Background(), config))
	waitFor(t, "the CDIConfig to be what it should", gate)
	if config.Status.ScratchSpaceStorageClass != "fast" {
		t.Error("the operator took the controller's status away")
	}
}

func (cl *cluster) placement(t *testing.T) {
	two, d := int32(2), &appsv1.Deployment{}
	cl.change(t, func(c *cdiv1.CDI) {
		c.Spec.Infra.NodeSelector = map[string]string{"role": "infra"}
		c.Spec.Infra.UploadProxyReplicas = &two
		c.Spec.ImagePullPolicy = corev1.PullAlways
		class := cdiv1.CDIPriorityClass("system-cluster-critical")
		c.Spec.PriorityClass = &class
	})
	waitFor(t, "the new template", func() bool {
		if cl.read(d, namespace, names.DeploymentUploadProxy) != nil {
			return false
		}
		p := d.Spec.Template.Spec
		return *d.Spec.Replicas == 2 && p.NodeSelector["role"] == "infra" && p.PriorityClassName == "system-cluster-critical" &&
			p.Containers[0].ImagePullPolicy == corev1.PullAlways
	})
	budget := &policyv1.PodDisruptionBudget{}
	waitFor(t, "the budget", func() bool { return cl.read(budget, namespace, names.DeploymentUploadProxy+"-pdb") == nil })
	if err := cl.read(budget, namespace, names.DeploymentAPIServer+"-pdb"); !apierrors.IsNotFound(err) {
		t.Errorf("one replica has a budget: it could never be drained: %v", err)
	}
	cl.change(t, func(c *cdiv1.CDI) { c.Spec.Infra = cdiv1.ComponentConfig{} })
	waitFor(t, "no budget", func() bool {
		return apierrors.IsNotFound(cl.read(budget, namespace, names.DeploymentUploadProxy+"-pdb"))
	})
	cl.rollAll()
}

func (cl *cluster) drift(t *testing.T) {
	role := &rbacv1.ClusterRole{}
	must(t, cl.read(role, "", "cdi.kubevirt.io:edit"))
	want := len(role.Rules)
	role.Rules = append(role.Rules, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"*"}})
	must(t, cl.c.Update(context.Background(), role))
	waitFor(t, "the role as it should be", func() bool { return cl.read(role, "", "cdi.kubevirt.io:edit") == nil && len(role.Rules) == want })
	service := &corev1.Service{}
	must(t, cl.read(service, namespace, names.ServiceUploadProxy))
	must(t, cl.c.Delete(context.Background(), service))
	waitFor(t, "the Service", func() bool { return cl.read(&corev1.Service{}, namespace, names.ServiceUploadProxy) == nil })
}

// A certificate that is taken away or runs out is issued again, by the same authority, and the signing key stays.
func (cl *cluster) renewal(t *testing.T) {
	leaf, signer, key, again := &corev1.Secret{}, &corev1.Secret{}, &corev1.Secret{}, &corev1.Secret{}
	must(t, cl.read(leaf, namespace, names.SecretProxyCert))
	must(t, cl.read(signer, namespace, names.SecretProxySigner))
	must(t, cl.read(key, namespace, names.SecretSigningKey))
	for _, note := range []string{names.AnnCertNotBefore, names.AnnCertNotAfter, names.AnnCertIssuer} {
		if leaf.Annotations[note] == "" {
			t.Errorf("no annotation %s", note)
		}
	}
	must(t, cl.c.Delete(context.Background(), leaf))
	waitFor(t, "a new leaf", func() bool { return cl.read(again, namespace, names.SecretProxyCert) == nil })
	if string(again.Data["tls.crt"]) == string(leaf.Data["tls.crt"]) {
		t.Error("the leaf is the one that was taken away")
	}
	cl.change(t, func(c *cdiv1.CDI) {
		c.Spec.CertConfig = &cdiv1.CDICertConfig{Server: &cdiv1.CertConfig{
			Duration: &metav1.Duration{Duration: 48 * time.Hour}, RenewBefore: &metav1.Duration{Duration: 24 * time.Hour},
		}}
	})
	must(t, cl.read(again, namespace, names.SecretProxySigner))
	if string(again.Data["tls.crt"]) != string(signer.Data["tls.crt"]) {
		t.Error("the authority has changed")
	}
	must(t, cl.read(again, namespace, names.SecretSigningKey))
	if string(again.Data[names.SigningKeyPrivate]) != string(key.Data[names.SigningKeyPrivate]) {
		t.Error("the signing key has changed")
	}
}

func (cl *cluster) idle(t *testing.T) {
	waitFor(t, "phase Deployed", func() bool { return cl.cdi().Status.Phase == "Deployed" })
	versions := func() map[string]string {
		out := map[string]string{"cdi": cl.cdi().ResourceVersion}
		secrets := &corev1.SecretList{}
		must(t, cl.c.List(context.Background(), secrets, client.InNamespace(namespace)))
		for _, s := range secrets.Items {
			out["secret "+s.Name] = s.ResourceVersion
		}
		roles := &rbacv1.ClusterRoleList{}
		must(t, cl.c.List(context.Background(), roles))
		for _, r := range roles.Items {
			out["role "+r.Name] = r.ResourceVersion
		}
		return out
	}
	before := versions()
	// An event that changes nothing sends the operator over everything once more.
	role := &rbacv1.ClusterRole{}
	must(t, cl.read(role, "", "cdi.kubevirt.io:view"))
	role.Annotations = map[string]string{"somebody": "was here"}
	must(t, cl.c.Update(context.Background(), role))
	config := &cdiv1.CDIConfig{}
	must(t, cl.read(config, "", names.CDIConfig))
	config.Labels = nil
	must(t, cl.c.Update(context.Background(), config))
	waitFor(t, "the operator's round", func() bool { return cl.read(config, "", names.CDIConfig) == nil && config.Labels != nil })
	after := versions()
	delete(before, "role cdi.kubevirt.io:view")
	for name, version := range before {
		if after[name] != version {
			t.Errorf("%s was written", name)
		}
	}
}

func (cl *cluster) removal(t *testing.T) {
	must(t, cl.c.Delete(context.Background(), cl.cdi()))
	waitFor(t, "the end of the CDI resource", func() bool { return apierrors.IsNotFound(cl.read(&cdiv1.CDI{}, "", names.CDI)) })
	deployments := &appsv1.DeploymentList{}
	must(t, cl.c.List(context.Background(), deployments, client.InNamespace(namespace), client.MatchingLabels{names.LabelManagedBy: "cdi-operator"}))
	roles := &rbacv1.ClusterRoleList{}
	must(t, cl.c.List(context.Background(), roles, client.MatchingLabels{names.LabelManagedBy: "cdi-operator"}))
	secrets := &corev1.SecretList{}
	must(t, cl.c.List(context.Background(), secrets, client.InNamespace(namespace)))
	if n := len(deployments.Items) + len(roles.Items) + len(secrets.Items); n > 0 {
		t.Errorf("%d objects are left behind", n)
	}
}

// Somebody else's CDI is used as it is: nothing of ours is put beside it, and nothing of theirs is changed.
func (cl *cluster) foreign(t *testing.T) {
	ctx := context.Background()
	must(t, cl.c.Delete(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "virtctl-inventory", Namespace: namespace}}))
	cl.create(&cdiv1.CDI{ObjectMeta: metav1.ObjectMeta{Name: "theirs"}})
	installer := cl.installer()
	out, err := installer.Install(ctx)
	must(t, err)
	for _, step := range out.Steps {
		if strings.Contains(step.Object, "cdi") {
			t.Errorf("%s %s", step.Object, step.Result)
		}
	}
	status, err := installer.Status(ctx)
	if err != nil || status.Storage == nil || !status.Storage.Foreign || status.Storage.Name != "theirs" {
		t.Errorf("%+v %v", status, err)
	}
}
