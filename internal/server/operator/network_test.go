package operator

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"virtctl/internal/install/components"
)

// A network for migrations that does not exist must not keep virt-handler from starting: no node's machines could be managed any more.
func TestMigrationNetwork(t *testing.T) {
	definition := func(namespace, name string) client.Object {
		d := &unstructured.Unstructured{}
		d.SetGroupVersionKind(networkGVK())
		d.SetNamespace(namespace)
		d.SetName(name)
		return d
	}
	installed := func(network string) *appsv1.DaemonSet {
		return components.Handler(components.Options{Namespace: "kubevirt", MigrationNetwork: network})
	}
	for _, c := range []struct {
		what, wanted  string
		exists        client.Object
		installed     string
		want, missing string
	}{
		{"none wanted", "", nil, "", "", ""},
		{"there", "lan", definition("kubevirt", "lan"), "", "lan", ""},
		{"there, elsewhere", "other/lan", definition("other", "lan"), "", "other/lan", ""},
		{"missing", "lan", definition("other", "lan"), "", "", "no NetworkAttachmentDefinition kubevirt/lan; migrations stay on the pod network"},
		{"missing, another in use", "lan", nil, "old", "old", "migrations stay on network old"},
	} {
		kv := &v1.KubeVirt{}
		if c.wanted != "" {
			kv.Spec.Configuration.MigrationConfiguration = &v1.MigrationConfiguration{Network: &c.wanted}
		}
		scheme := Scheme()
		scheme.AddKnownTypeWithName(networkGVK(), &unstructured.Unstructured{})
		live := fake.NewClientBuilder().WithScheme(scheme)
		if c.exists != nil {
			live = live.WithObjects(c.exists)
		}
		r := &Reconciler{
			client: fake.NewClientBuilder().WithScheme(Scheme()).WithObjects(installed(c.installed)).Build(), live: live.Build(), namespace: "kubevirt",
		}
		got, missing, err := r.migrationNetwork(t.Context(), kv)
		if err != nil || got != c.want || c.missing == "" && missing != "" || !strings.Contains(missing, c.missing) {
			t.Errorf("%s: network %q, missing %q, %v; want %q, %q", c.what, got, missing, err, c.want, c.missing)
		}
	}
}
