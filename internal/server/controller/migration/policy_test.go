package migration

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	migrationsv1alpha1 "kubevirt.io/api/migrations/v1alpha1"

	"virtctl/internal/clusterconfig"
)

func policyOf(name string, vmi, namespace map[string]string) policy {
	return policy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: migrationsv1alpha1.MigrationPolicySpec{
		Selectors: &migrationsv1alpha1.Selectors{VirtualMachineInstanceSelector: vmi, NamespaceSelector: namespace},
	}}
}

// Which of several policies holds is public contract: administrators rely on the more specific one.
func TestMatch(t *testing.T) {
	type labels = map[string]string
	web, prod := labels{"app": "web", "size": "s"}, labels{"tier": "prod"}
	for _, c := range []struct {
		what string
		all  []policy
		want string
	}{
		{"no policy", nil, ""},
		{"another label", []policy{policyOf("a", labels{"app": "db"}, nil)}, ""},
		{"half of it", []policy{policyOf("a", web, labels{"tier": "test"})}, ""},
		{"VMI", []policy{policyOf("a", labels{"app": "web"}, nil)}, "a"},
		{"namespace", []policy{policyOf("a", nil, prod)}, "a"},
		{"most labels", []policy{policyOf("a", labels{"app": "web"}, nil), policyOf("b", web, prod), policyOf("c", web, nil)}, "b"},
		{"equals", []policy{policyOf("b", labels{"app": "web"}, nil), policyOf("a", nil, prod)}, "a"},
		{"without selectors", []policy{{ObjectMeta: metav1.ObjectMeta{Name: "a"}}}, ""},
		{"for all", []policy{policyOf("a", nil, nil)}, "a"},
	} {
		got := ""
		if p := match(c.all, web, prod); p != nil {
			got = p.Name
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

func TestOverride(t *testing.T) {
	yes, no, seconds, downtime, bandwidth := true, false, int64(7), uint64(50), resource.MustParse("64Mi")
	cluster := clusterconfig.Migration{CompletionSecondsPerGiB: 150, MaxDowntimeMillis: 900}
	same := override(cluster, &migrationsv1alpha1.MigrationPolicySpec{})
	if same.CompletionSecondsPerGiB != 150 || same.MaxDowntimeMillis != 900 || same.AllowPostCopy {
		t.Errorf("an empty policy changes %+v", same)
	}
	all := override(cluster, &migrationsv1alpha1.MigrationPolicySpec{
		AllowAutoConverge: &yes, AllowPostCopy: &yes, CompletionTimeoutPerGiB: &seconds, MaxDowntimeMs: &downtime, BandwidthPerMigration: &bandwidth,
	})
	if !all.AllowAutoConverge || !all.AllowPostCopy || !all.AllowWorkloadDisruption || all.CompletionSecondsPerGiB != 7 ||
		all.MaxDowntimeMillis != 50 || all.Bandwidth.String() != "64Mi" {
		t.Errorf("the policy gives %+v", all)
	}
	if o := override(cluster, &migrationsv1alpha1.MigrationPolicySpec{AllowPostCopy: &yes, AllowWorkloadDisruption: &no}); o.AllowWorkloadDisruption {
		t.Error("a policy that forbids disruption allows it")
	}
}
