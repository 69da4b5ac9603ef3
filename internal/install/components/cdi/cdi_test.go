package cdi

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"virtctl/internal/apply"
	"virtctl/internal/cdi/names"
	"virtctl/internal/install/pods"
)

var options = Options{
	Namespace: "kubevirt", Registry: "registry.example/virtctl", Tag: "v1", PullPolicy: "IfNotPresent", Verbosity: 2,
	CABundle: []byte("CA"),
}

// What a cluster gets is reviewed as YAML: a change of any object shows in these files.
func TestObjectsAreTheGoldenOnes(t *testing.T) {
	chosen := options
	chosen.Replicas = map[string]int32{names.DeploymentController: 2, names.DeploymentUploadProxy: 3}
	chosen.Infra = pods.Placement{
		NodeSelector: map[string]string{"role": "infra"},
		Tolerations:  []corev1.Toleration{{Key: "infra", Operator: corev1.TolerationOpExists}},
	}
	chosen.PriorityClass, chosen.Rendering, chosen.SecurityConstraints = "system-cluster-critical", true, true
	workloads := func(o Options) []runtime.Object {
		var out []runtime.Object
		for _, d := range Workloads(o) {
			out = append(out, d)
		}
		return out
	}
	for name, objects := range map[string][]runtime.Object{
		"bootstrap":     Bootstrap(options),
		"static":        Static(options),
		"workloads":     workloads(options),
		"registrations": Registrations(options),
		"chosen":        slices.Concat(workloads(chosen), DisruptionBudgets(chosen), []runtime.Object{SecurityConstraints(chosen)}, Registrations(chosen)),
	} {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			for _, obj := range objects {
				u, err := apply.Unstructured(obj)
				if err != nil {
					t.Fatal(err)
				}
				body, err := yaml.Marshal(u.Object)
				if err != nil {
					t.Fatal(err)
				}
				got.WriteString("---\n")
				got.Write(body)
			}
			golden(t, name+".yaml", got.Bytes())
		})
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("%s is not what it was; look at the difference and run UPDATE=1 go test ./internal/install/components/cdi\n%s", path, got)
	}
}

// virt-operator deletes what carries its label and is not in its list: nothing of CDI's may.
func TestObjectsBelongToTheirOperator(t *testing.T) {
	for _, obj := range slices.Concat(Static(options), Registrations(options), Bootstrap(options)) {
		u, err := apply.Unstructured(obj)
		if err != nil {
			t.Fatal(err)
		}
		if u.GetLabels()[names.LabelManagedBy] != ManagedBy {
			t.Errorf("%s belongs to %q", apply.Describe(u), u.GetLabels()[names.LabelManagedBy])
		}
	}
}

// Who checks tokens must not be able to make them, and who serves uploads must not read secrets of users.
func TestProxyHoldsNoSigningKey(t *testing.T) {
	for _, v := range UploadProxy(options).Spec.Template.Spec.Volumes {
		if v.Secret == nil || v.Secret.SecretName != names.SecretSigningKey {
			continue
		}
		if len(v.Secret.Items) != 1 || v.Secret.Items[0].Key != names.SigningKeyPublic {
			t.Errorf("the proxy mounts %v", v.Secret.Items)
		}
	}
	for _, obj := range Accounts(options) {
		role, ok := obj.(*rbacv1.ClusterRole)
		if !ok {
			continue
		}
		for _, r := range role.Rules {
			if slices.Contains(r.Resources, "secrets") && !slices.Equal(r.Verbs, []string{"create"}) {
				t.Errorf("%s may %v secrets everywhere", role.Name, r.Verbs)
			}
		}
	}
}
