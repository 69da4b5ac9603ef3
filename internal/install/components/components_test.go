package components

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"virtctl/internal/apply"
)

var options = Options{
	Namespace: "kubevirt", Registry: "registry.example/virtctl", Tag: "v1", PullPolicy: "IfNotPresent", Replicas: 2, Verbosity: 2,
	CABundle: []byte("CA"),
}

var subresources = map[string][]rbacv1.PolicyRule{
	"kubevirt.io:edit": {rule(list("subresources.kubevirt.io"), list("virtualmachines/start"), list("update"))},
}

// What a cluster gets is reviewed as YAML: a change of any object shows in these files.
func TestObjectsAreTheGoldenOnes(t *testing.T) {
	placed := options
	placed.Replicas = 1
	placed.Infra = &v1.NodePlacement{NodeSelector: map[string]string{"role": "infra"}}
	placed.MigrationNetwork = "storage-net"
	placed.Workloads = &v1.NodePlacement{NodeSelector: map[string]string{"role": "virt"}}
	cases := map[string][]runtime.Object{
		"bootstrap":     Bootstrap(options),
		"static":        Static(options, subresources),
		"workloads":     {API(options), Controller(options), Handler(options)},
		"placed":        append(Static(placed, nil)[:0], API(placed), Controller(placed), Handler(placed)),
		"registrations": Registrations(options, nil),
	}
	for name, objects := range cases {
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
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("%s is not what it was; look at the difference and run UPDATE=1 go test ./internal/install/components\n%s", path, got)
	}
}

// A node agent that is taken over must not read secrets, and nobody but the operator may touch roles.
func TestNodeAgentHasNoSecretVerbs(t *testing.T) {
	for _, r := range handlerRules() {
		for _, resource := range r.Resources {
			if resource == "secrets" || resource == "*" {
				t.Errorf("virt-handler may %v %s", r.Verbs, resource)
			}
		}
	}
	for name, rules := range map[string][]rbacv1.PolicyRule{"apiserver": apiRules(), "controller": controllerRules(), "handler": handlerRules()} {
		for _, r := range rules {
			for _, group := range r.APIGroups {
				if group == rbacv1.GroupName || group == "*" {
					t.Errorf("%s may %v %v of %s", name, r.Verbs, r.Resources, group)
				}
			}
		}
	}
}
