package cdi

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/uploadapi"
)

const (
	group    = "cdi.kubevirt.io"
	forklift = "forklift.cdi.kubevirt.io"
	rbac     = rbacv1.GroupName
)

func rule(groups, resources, verbs []string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: groups, Resources: resources, Verbs: verbs}
}

func list(s ...string) []string { return s }

func read() []string { return list("get", "list", "watch") }

// userRole is one of the roles people are given.
type userRole struct {
	name string
	// into are the default Kubernetes roles it is merged into.
	into  []string
	rules []rbacv1.PolicyRule
}

// userRoles are table 1.2 of the contract, verb by verb, and after it what goes beyond the table, in roles of their own so
// that the table's stay what they are.
func userRoles() []userRole {
	mayUpload := []rbacv1.PolicyRule{
		rule(list(group), list("datavolumes"), list("*")),
		rule(list(uploadapi.Group), list(uploadapi.TokenRequests), list("*")),
		rule(list(group), list("datavolumes/source"), list("create")),
	}
	populators := list("ovirtvolumepopulators", "openstackvolumepopulators")
	return []userRole{
		{name: "cdi.kubevirt.io:admin", into: list("admin"), rules: mayUpload},
		{name: "cdi.kubevirt.io:edit", into: list("edit"), rules: mayUpload},
		{name: "cdi.kubevirt.io:view", into: list("view"), rules: []rbacv1.PolicyRule{
			rule(list(group), list("cdiconfigs", "dataimportcrons", "datasources", "datavolumes", "objecttransfers", "storageprofiles",
				"volumeimportsources", "volumeuploadsources", "volumeclonesources"), read()),
			rule(list(group), list("datavolumes/source"), list("create")),
		}},
		{name: configReader, rules: []rbacv1.PolicyRule{rule(list(group), list("cdiconfigs", "storageprofiles"), read())}},

		{name: "cdi.kubevirt.io:clone-sourcer", rules: []rbacv1.PolicyRule{rule(list(group), list("datavolumes/source"), list("create"))}},
		{name: "virtctl.io:upload", into: list("admin", "edit"), rules: []rbacv1.PolicyRule{
			rule(list(uploadapi.Group), list(uploadapi.Uploads+"/"+uploadapi.Proxy), list("get", "create")),
		}},
		{name: "virtctl.io:cdi-edit", into: list("admin", "edit"), rules: []rbacv1.PolicyRule{
			rule(list(group), list("datavolumes", "dataimportcrons", "datasources", "volumeimportsources", "volumeuploadsources", "volumeclonesources"), list("*")),
			rule(list(forklift), populators, list("*")),
		}},
		{name: "virtctl.io:cdi-view", into: list("view"), rules: []rbacv1.PolicyRule{rule(list(forklift), populators, read())}},
	}
}

const configReader = "cdi.kubevirt.io:config-reader"

// UserRoles are the roles of people.
func UserRoles(o Options) []runtime.Object {
	var out []runtime.Object
	for _, r := range userRoles() {
		meta := o.clusterMeta(r.name, names.DeploymentAPIServer)
		for _, target := range r.into {
			meta.Labels["rbac.authorization.k8s.io/aggregate-to-"+target] = "true"
		}
		out = append(out, clusterRole(meta, r.rules))
	}
	subject := func(name string) rbacv1.Subject { return rbacv1.Subject{Kind: "Group", APIGroup: rbac, Name: name} }
	return append(out, &rbacv1.ClusterRoleBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbac + "/v1", Kind: "ClusterRoleBinding"},
		ObjectMeta: o.clusterMeta(configReader, names.DeploymentAPIServer),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbac, Kind: "ClusterRole", Name: configReader},
		Subjects:   []rbacv1.Subject{subject("system:authenticated"), subject("system:serviceaccount")},
	})
}

func clusterRole(meta metav1.ObjectMeta, rules []rbacv1.PolicyRule) runtime.Object {
	return &rbacv1.ClusterRole{TypeMeta: metav1.TypeMeta{APIVersion: rbac + "/v1", Kind: "ClusterRole"}, ObjectMeta: meta, Rules: rules}
}
