package components

import (
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// userRole is one of the roles people are given. Aggregation names the default Kubernetes role it is merged into.
type userRole struct {
	name, aggregateTo string
	// verbs on the resources people create, and on migrations and policies, which only watch by default.
	resources, migrations []string
	// kubevirts is the verbs on the installation's own resource.
	kubevirts []string
	// clusterTypes is the verbs on cluster-wide instance types and preferences.
	clusterTypes []string
	// everyone binds the role to every signed-in user.
	everyone bool
}

var (
	manage    = list("get", "delete", "create", "update", "patch", "list", "watch")
	manageAll = append(list("deletecollection"), manage...)
)

var userRoles = []userRole{
	{name: "kubevirt.io:default", kubevirts: list("get", "list"), everyone: true},
	{name: "instancetype.kubevirt.io:view", clusterTypes: read, everyone: true},
	{name: "kubevirt.io:view", aggregateTo: "view", resources: read, migrations: read, kubevirts: list("get", "list")},
	{name: "kubevirt.io:edit", aggregateTo: "edit", resources: manage, migrations: read, kubevirts: list("get", "list")},
	{name: "kubevirt.io:admin", aggregateTo: "admin", resources: manageAll, migrations: read},
	{name: "kubevirt.io:migrate", migrations: manageAll},
}

func userRoleNames() []string {
	var out []string
	for _, r := range userRoles {
		out = append(out, r.name)
	}
	return out
}

// UserRoles are the roles of the contract. The rules on subresources come from the table virt-api serves its routes from.
func UserRoles(o Options, subresources map[string][]rbacv1.PolicyRule) []runtime.Object {
	var out []runtime.Object
	for _, r := range userRoles {
		meta := o.clusterMeta(r.name, APIName)
		if r.aggregateTo != "" {
			meta.Labels["rbac.authorization.k8s.io/aggregate-to-"+r.aggregateTo] = "true"
		}
		out = append(out, ClusterRole(meta, append(slices.Clone(subresources[r.name]), r.rules()...)))
		if r.everyone {
			out = append(out, everyone(o, r.name))
		}
	}
	return out
}

func (r userRole) rules() []rbacv1.PolicyRule {
	var out []rbacv1.PolicyRule
	if len(r.resources) > 0 {
		out = append(out, rule(list("instancetype.kubevirt.io"), list("virtualmachineinstancetypes", "virtualmachinepreferences"), r.resources))
		out = append(out, rule(list("kubevirt.io"), list("virtualmachines", "virtualmachineinstances",
			"virtualmachineinstancepresets", "virtualmachineinstancereplicasets"), r.resources))
	}
	if len(r.migrations) > 0 {
		out = append(out,
			rule(list("kubevirt.io"), list("virtualmachineinstancemigrations"), r.migrations))
		if r.aggregateTo != "" {
			out = append(out, rule(list("migrations.kubevirt.io"), list("migrationpolicies"), read))
		}
	}
	if len(r.clusterTypes) > 0 {
		out = append(out, rule(list("instancetype.kubevirt.io"),
			list("virtualmachineclusterinstancetypes", "virtualmachineclusterpreferences"), r.clusterTypes))
	}
	if len(r.kubevirts) > 0 {
		out = append(out, rule(list("kubevirt.io"), list("kubevirts"), r.kubevirts))
	}
	return out
}

func everyone(o Options, role string) runtime.Object {
	return &rbacv1.ClusterRoleBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRoleBinding"},
		ObjectMeta: o.clusterMeta(role, APIName),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{Kind: "Group", APIGroup: rbacv1.GroupName, Name: "system:authenticated"}},
	}
}
