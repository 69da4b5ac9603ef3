package components

import (
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func rule(groups, resources, verbs []string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: groups, Resources: resources, Verbs: verbs}
}

func list(s ...string) []string { return s }

var (
	read   = list("get", "list", "watch")
	events = rule(list("", "events.k8s.io"), list("events"), list("create", "patch"))
)

// Accounts are the components' ServiceAccounts with no more than each of them needs.
func Accounts(o Options) []runtime.Object {
	var out []runtime.Object
	out = append(out, o.account("kubevirt-apiserver", apiRules(), []rbacv1.PolicyRule{
		rule(list(""), list("configmaps"), read),
	})...)
	out = append(out, o.account("kubevirt-controller", controllerRules(), []rbacv1.PolicyRule{
		rule(list("coordination.k8s.io"), list("leases"), append(list("create", "update", "patch"), read...)),
	})...)
	// Its own node's lease, to which NodeRestriction holds it.
	out = append(out, o.account("kubevirt-handler", handlerRules(), []rbacv1.PolicyRule{
		rule(list("coordination.k8s.io"), list("leases"), list("create", "patch")),
	})...)
	out = append(out,
		o.clusterBinding("kubevirt-apiserver-auth-delegator", "system:auth-delegator", "kubevirt-apiserver"),
		&rbacv1.RoleBinding{
			TypeMeta: metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "RoleBinding"},
			ObjectMeta: metav1.ObjectMeta{
				Name: "kubevirt-apiserver-authentication-reader", Namespace: "kube-system", Labels: o.Meta("", APIName).Labels,
			},
			RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "extension-apiserver-authentication-reader"},
			Subjects: o.subjects("kubevirt-apiserver"),
		},
	)
	return out
}

func apiRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule(list("kubevirt.io"), list("virtualmachines", "virtualmachineinstances"), append(list("patch"), read...)),
		rule(list("kubevirt.io"), list("virtualmachines/status"), list("patch")),
		rule(list("kubevirt.io"), list("kubevirts", "virtualmachineinstancepresets"), read),
		rule(list("kubevirt.io"), list("virtualmachineinstancemigrations"), append(list("create"), read...)),
		rule(list("instancetype.kubevirt.io"), list("*"), read),
		rule(list(""), list("pods", "nodes", "namespaces", "persistentvolumeclaims"), read),
		rule(list("cdi.kubevirt.io"), list("datavolumes", "datasources"), read),
		rule(list("authorization.k8s.io"), list("subjectaccessreviews"), list("create")),
		rule(list("apps"), list("controllerrevisions"), list("get", "list", "watch")),
		events,
	}
}

func controllerRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule(list("kubevirt.io"), list("*"), list("get", "list", "watch", "create", "update", "patch", "delete")),
		rule(list("instancetype.kubevirt.io", "migrations.kubevirt.io"), list("*"), read),
		rule(list(""), list("pods"), list("get", "list", "watch", "create", "update", "patch", "delete")),
		rule(list(""), list("pods/status"), list("patch", "update")),
		// A guest that grows needs a pod that does.
		rule(list(""), list("pods/resize"), list("patch")),
		rule(list(""), list("pods/eviction"), list("create")),
		rule(list(""), list("persistentvolumeclaims"), list("get", "list", "watch", "create", "update", "patch", "delete")),
		rule(list(""), list("nodes"), list("get", "list", "watch", "patch")),
		rule(list(""), list("namespaces", "resourcequotas", "configmaps", "services"), read),
		rule(list("policy"), list("poddisruptionbudgets"), list("get", "list", "watch", "delete")),
		rule(list("apps"), list("controllerrevisions"), list("get", "list", "watch", "create", "update", "patch", "delete")),
		rule(list("storage.k8s.io"), list("storageclasses"), read),
		rule(list("cdi.kubevirt.io"), list("*"), list("get", "list", "watch", "create", "update", "patch", "delete")),
		rule(list("authorization.k8s.io"), list("subjectaccessreviews"), list("create")),
		// Whether DataVolumes exist, and why kubelet cannot mount a VM's volume.
		rule(list("apiextensions.k8s.io"), list("customresourcedefinitions"), read),
		rule(list(""), list("events"), read),
		events,
	}
}

// handlerRules hold no verb on secrets; NodeRestriction narrows the writes to the handler's own node and the VMIs on it.
func handlerRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule(list("kubevirt.io"), list("virtualmachineinstances"), list("get", "list", "watch", "update", "patch")),
		rule(list("kubevirt.io"), list("kubevirts"), read),
		rule(list("kubevirt.io"), list("virtualmachineinstancemigrations"), read),
		rule(list("migrations.kubevirt.io"), list("migrationpolicies"), read),
		rule(list(""), list("nodes"), list("get", "list", "watch", "patch")),
		rule(list(""), list("pods"), read),
		events,
	}
}

func (o Options) subjects(account string) []rbacv1.Subject {
	return []rbacv1.Subject{{Kind: "ServiceAccount", Name: account, Namespace: o.Namespace}}
}

// account is a ServiceAccount with its cluster-wide rules and its rules in the install namespace.
func (o Options) account(name string, cluster, local []rbacv1.PolicyRule) []runtime.Object {
	out := []runtime.Object{
		&corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: o.Meta(name, name)},
		ClusterRole(o.clusterMeta(name, name), cluster),
		o.clusterBinding(name, name, name),
	}
	if len(local) == 0 {
		return out
	}
	return append(out,
		&rbacv1.Role{
			TypeMeta:   metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "Role"},
			ObjectMeta: o.Meta(name, name), Rules: local,
		},
		&rbacv1.RoleBinding{
			TypeMeta:   metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "RoleBinding"},
			ObjectMeta: o.Meta(name, name),
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name}, Subjects: o.subjects(name),
		})
}

// ClusterRole is a cluster role with the given rules.
func ClusterRole(meta metav1.ObjectMeta, rules []rbacv1.PolicyRule) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{
		TypeMeta:   metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole"},
		ObjectMeta: meta, Rules: rules,
	}
}

func (o Options) clusterBinding(name, role, account string) runtime.Object {
	return &rbacv1.ClusterRoleBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRoleBinding"},
		ObjectMeta: o.clusterMeta(name, account),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}, Subjects: o.subjects(account),
	}
}

// OperatorAccount is what the operator may do. It may hand out roles only by the names it owns, so that it never needs to hold
// every permission it grants.
func OperatorAccount(o Options) []runtime.Object {
	manage := list("get", "list", "watch", "create", "update", "patch", "delete")
	cluster := []rbacv1.PolicyRule{
		rule(list("kubevirt.io"), list("kubevirts", "kubevirts/status", "kubevirts/finalizers"), list("get", "list", "watch", "update", "patch")),
		rule(list("kubevirt.io"), list("virtualmachines", "virtualmachineinstances"), list("get", "list", "watch", "delete")),
		rule(list("apiextensions.k8s.io"), list("customresourcedefinitions"), manage),
		rule(list("apiregistration.k8s.io"), list("apiservices"), manage),
		rule(list("admissionregistration.k8s.io"), list("mutatingwebhookconfigurations", "validatingwebhookconfigurations",
			"validatingadmissionpolicies", "validatingadmissionpolicybindings"), manage),
		rule(list("scheduling.k8s.io"), list("priorityclasses"), manage),
		rule(list("instancetype.kubevirt.io"), list("virtualmachineclusterinstancetypes", "virtualmachineclusterpreferences"), manage),
		rule(list("rbac.authorization.k8s.io"), list("clusterroles", "clusterrolebindings", "roles", "rolebindings"), manage),
		{
			APIGroups: list("rbac.authorization.k8s.io"), Resources: list("clusterroles", "roles"), Verbs: list("bind", "escalate"),
			ResourceNames: append(grantedRoles(), "system:auth-delegator", "extension-apiserver-authentication-reader"),
		},
		rule(list(""), list("nodes"), read),
		rule(list("storage.k8s.io"), list("storageclasses"), read),
		rule(list("k8s.cni.cncf.io"), list("network-attachment-definitions"), read),
		events,
	}
	local := []rbacv1.PolicyRule{
		rule(list(""), list("secrets", "configmaps", "services", "serviceaccounts"), manage),
		rule(list(""), list("pods"), read),
		rule(list("apps"), list("deployments", "daemonsets"), manage),
		rule(list("policy"), list("poddisruptionbudgets"), manage),
		rule(list("coordination.k8s.io"), list("leases"), list("get", "create", "update", "patch")),
	}
	return o.account("kubevirt-operator", cluster, local)
}

func grantedRoles() []string {
	return append(list("kubevirt-apiserver", "kubevirt-controller", "kubevirt-handler"), userRoleNames()...)
}
