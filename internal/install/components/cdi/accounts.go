package cdi

import (
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/uploadapi"
)

// account is a component's ServiceAccount with its permissions: cluster-wide and in the install namespace. What the contract's
// tables do not have is in extra, so that the roles of the tables stay what they are.
type account struct {
	name, component string
	// clusterRole and role are the names of the contract's roles.
	clusterRole, role string
	cluster, local    []rbacv1.PolicyRule
	extraName         string
	extra, extraLocal []rbacv1.PolicyRule
}

func accounts() []account {
	return []account{
		{
			name: names.AccountController, component: names.DeploymentController,
			clusterRole: "cdi", cluster: controllerCluster(), role: "cdi-deployment", local: controllerLocal(),
			extraName: "virtctl.io:cdi-controller", extra: controllerExtra(), extraLocal: controllerExtraLocal(),
		},
		{
			name: names.AccountAPIServer, component: names.DeploymentAPIServer,
			clusterRole: names.AccountAPIServer, cluster: apiCluster(), role: names.AccountAPIServer, local: apiLocal(),
			extraName: "virtctl.io:cdi-apiserver", extra: append(forwardRules(),
				rule(list("storage.k8s.io"), list("storageclasses"), read()),
				rule(list(group), list("storageprofiles"), read())),
		},
		{
			name: names.AccountUploadProxy, component: names.DeploymentUploadProxy,
			clusterRole: names.AccountUploadProxy,
			cluster:     []rbacv1.PolicyRule{rule(list(""), list("persistentvolumeclaims"), list("get"))},
			role:        names.AccountUploadProxy, local: []rbacv1.PolicyRule{rule(list(""), list("configmaps"), list("get"))},
			extraName: "virtctl.io:cdi-uploadproxy", extra: forwardRules(),
		},
		{
			name: names.AccountCronJob, component: names.DeploymentController, clusterRole: names.AccountCronJob,
			cluster:   []rbacv1.PolicyRule{rule(list(group), list("dataimportcrons"), list("get", "list", "update"))},
			extraName: "virtctl.io:cdi-cronjob", extra: []rbacv1.PolicyRule{rule(list(group), list("dataimportcrons"), list("patch"))},
		},
	}
}

// forwardRules let an upload be followed to its pod: waiting is watching, and the pod is reached by its own address.
func forwardRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule(list(""), list("persistentvolumeclaims", "pods"), read()),
		rule(list(group), list("cdiconfigs"), read()),
	}
}

// controllerCluster is table 1.4.
func controllerCluster() []rbacv1.PolicyRule {
	const snapshots = "snapshot.storage.k8s.io"
	return []rbacv1.PolicyRule{
		rule(list(""), list("events"), list("create", "patch")),
		rule(list(""), list("persistentvolumeclaims"), list("get", "list", "watch", "create", "update", "delete", "deletecollection", "patch")),
		rule(list(""), list("persistentvolumes"), list("get", "list", "watch", "update")),
		rule(list(""), list("persistentvolumeclaims/finalizers", "pods/finalizers"), list("update")),
		rule(list(""), list("pods", "services"), list("get", "list", "watch", "create", "delete")),
		rule(list(""), list("configmaps"), list("get", "create")),
		rule(list("storage.k8s.io"), list("storageclasses", "csidrivers"), read()),
		rule(list("config.openshift.io"), list("proxies"), read()),
		rule(list(group), list("*"), list("*")),
		rule(list(snapshots), list("volumesnapshots", "volumesnapshotclasses", "volumesnapshotcontents"), list("get", "list", "watch", "create", "delete")),
		rule(list(snapshots), list("volumesnapshots"), list("update", "deletecollection")),
		rule(list("apiextensions.k8s.io"), list("customresourcedefinitions"), read()),
		rule(list("scheduling.k8s.io"), list("priorityclasses"), read()),
		rule(list("image.openshift.io"), list("imagestreams"), read()),
		rule(list(""), list("secrets"), list("create")),
		rule(list("kubevirt.io"), list("virtualmachines/finalizers"), list("update")),
	}
}

// controllerExtra is what later versions of CDI and our own ways need beyond the table.
func controllerExtra() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule(list(""), list("events"), read()),
		rule(list("events.k8s.io"), list("events"), list("create", "patch")),
		rule(list(""), list("namespaces", "nodes", "resourcequotas", "limitranges"), read()),
		rule(list(""), list("persistentvolumes"), list("patch")),
		rule(list("authorization.k8s.io"), list("subjectaccessreviews"), list("create")),
		rule(list("config.openshift.io"), list("infrastructures", "apiservers"), read()),
		rule(list(forklift), list("*"), list("*")),
	}
}

// controllerLocal is table 1.6.
func controllerLocal() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule(list(""), list("configmaps"), list("get", "list", "watch", "create", "update", "delete")),
		rule(list(""), list("secrets"), read()),
		rule(list("batch"), list("cronjobs"), list("get", "list", "watch", "create", "update", "delete")),
		rule(list("batch"), list("jobs"), list("create", "delete", "list", "watch")),
		rule(list("coordination.k8s.io"), list("leases"), list("get", "create", "update")),
		rule(list("networking.k8s.io"), list("ingresses"), read()),
		rule(list("route.openshift.io"), list("routes"), read()),
	}
}

func controllerExtraLocal() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule(list("coordination.k8s.io"), list("leases"), list("patch")),
		rule(list("batch"), list("cronjobs", "jobs"), list("get", "patch", "deletecollection")),
	}
}

func apiCluster() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule(list("authorization.k8s.io"), list("subjectaccessreviews"), list("create")),
		rule(list(""), list("configmaps"), read()),
		rule(list(""), list("persistentvolumeclaims", "namespaces"), list("get")),
		rule(list("snapshot.storage.k8s.io"), list("volumesnapshots"), list("get")),
		rule(list(group), list("datavolumes"), list("list", "get")),
		rule(list(group), list("datasources", "cdis"), list("get")),
		rule(list(group), list("cdis/finalizers"), list("update")),
	}
}

// apiLocal has no create on Secrets, unlike CDI's own: the operator makes the signing key.
func apiLocal() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{rule(list(""), list("secrets", "configmaps"), read())}
}

// Accounts are the components' ServiceAccounts with no more than each of them needs.
func Accounts(o Options) []runtime.Object {
	var out []runtime.Object
	for _, a := range accounts() {
		out = append(out, o.account(a)...)
	}
	return append(out, &rbacv1.RoleBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbac + "/v1", Kind: "RoleBinding"},
		ObjectMeta: metav1.ObjectMeta{Name: authReader, Namespace: "kube-system", Labels: labels(names.DeploymentAPIServer)},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbac, Kind: "Role", Name: "extension-apiserver-authentication-reader"},
		Subjects:   o.subjects(names.AccountAPIServer),
	})
}

// authReader is the binding that lets cdi-apiserver learn who may say who a user is.
const authReader = "cdi-extension-apiserver-authentication"

func (o Options) subjects(account string) []rbacv1.Subject {
	return []rbacv1.Subject{{Kind: "ServiceAccount", Name: account, Namespace: o.Namespace}}
}

func (o Options) account(a account) []runtime.Object {
	out := []runtime.Object{
		&corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: o.Meta(a.name, a.component)},
	}
	grant := func(role, binding string, cluster, local []rbacv1.PolicyRule) {
		subjects := o.subjects(a.name)
		if len(cluster) > 0 {
			out = append(out, clusterRole(o.clusterMeta(role, a.component), cluster), &rbacv1.ClusterRoleBinding{
				TypeMeta:   metav1.TypeMeta{APIVersion: rbac + "/v1", Kind: "ClusterRoleBinding"},
				ObjectMeta: o.clusterMeta(binding, a.component),
				RoleRef:    rbacv1.RoleRef{APIGroup: rbac, Kind: "ClusterRole", Name: role}, Subjects: subjects,
			})
		}
		if len(local) > 0 {
			out = append(out, &rbacv1.Role{
				TypeMeta:   metav1.TypeMeta{APIVersion: rbac + "/v1", Kind: "Role"},
				ObjectMeta: o.Meta(role, a.component), Rules: local,
			}, &rbacv1.RoleBinding{
				TypeMeta:   metav1.TypeMeta{APIVersion: rbac + "/v1", Kind: "RoleBinding"},
				ObjectMeta: o.Meta(role, a.component),
				RoleRef:    rbacv1.RoleRef{APIGroup: rbac, Kind: "Role", Name: role}, Subjects: subjects,
			})
		}
	}
	grant(a.clusterRole, a.name, a.cluster, nil)
	grant(a.role, a.role, nil, a.local)
	grant(a.extraName, a.extraName, a.extra, a.extraLocal)
	return out
}

// OperatorAccount is what the operator may do: tables 1.3 and 1.5, and what goes beyond them in roles of its own. It may hand
// out roles only by the names it owns, so that it never needs to hold every permission it grants.
func OperatorAccount(o Options) []runtime.Object {
	return o.account(account{
		name: names.AccountOperator, component: names.DeploymentOperator,
		clusterRole: "cdi-operator-cluster", cluster: operatorCluster(), role: names.AccountOperator, local: operatorLocal(),
		extraName: "virtctl.io:cdi-operator", extra: operatorExtra(), extraLocal: operatorExtraLocal(),
	})
}

// operatorCluster is table 1.3.
func operatorCluster() []rbacv1.PolicyRule {
	const hooks, validating, mutating = "admissionregistration.k8s.io", "validatingwebhookconfigurations", "mutatingwebhookconfigurations"
	manage := list("get", "list", "watch", "create", "update", "delete")
	named := func(resource string, allowed ...string) rbacv1.PolicyRule {
		r := rule(list(hooks), list(resource), list("get", "update", "delete"))
		r.ResourceNames = allowed
		return r
	}
	return []rbacv1.PolicyRule{
		rule(list(rbac), list("clusterrolebindings", "clusterroles"), manage),
		rule(list("security.openshift.io"), list("securitycontextconstraints"), list("get", "list", "watch", "update", "create")),
		rule(list("apiextensions.k8s.io"), list("customresourcedefinitions", "customresourcedefinitions/status"), manage),
		rule(list(group), list("*"), list("*")),
		rule(list(uploadapi.Group), list("*"), list("*")),
		rule(list(hooks), list(validating, mutating), list("create", "list", "watch")),
		named(validating, "cdi-api-dataimportcron-validate", "cdi-api-populator-validate", "cdi-api-datavolume-validate",
			"cdi-api-validate", "objecttransfer-api-validate"),
		named(mutating, "cdi-api-datavolume-mutate"),
		rule(list("apiregistration.k8s.io"), list("apiservices"), manage),
	}
}

// operatorExtra is what applying (a patch in the API) and later parts of the contract need beyond the table.
func operatorExtra() []rbacv1.PolicyRule {
	const hooks = "admissionregistration.k8s.io"
	granted := list("extension-apiserver-authentication-reader")
	for _, a := range accounts() {
		granted = append(granted, a.clusterRole)
		if a.role != "" && a.role != a.clusterRole {
			granted = append(granted, a.role)
		}
		granted = append(granted, a.extraName)
	}
	for _, r := range userRoles() {
		granted = append(granted, r.name)
	}
	return []rbacv1.PolicyRule{
		rule(list(rbac), list("clusterroles", "clusterrolebindings"), list("patch")),
		{APIGroups: list(rbac), Resources: list("clusterroles", "roles"), Verbs: list("bind", "escalate"), ResourceNames: granted},
		{
			APIGroups: list(rbac), Resources: list("rolebindings"), Verbs: list("get", "update", "patch", "delete"),
			ResourceNames: list(authReader),
		},
		rule(list(rbac), list("rolebindings"), list("create", "list", "watch")),
		rule(list("apiextensions.k8s.io"), list("customresourcedefinitions"), list("patch")),
		rule(list("apiregistration.k8s.io"), list("apiservices"), list("patch")),
		{APIGroups: list(hooks), Resources: list("validatingwebhookconfigurations", "mutatingwebhookconfigurations"), Verbs: list("patch"), ResourceNames: hookNames()},
		{APIGroups: list(hooks), Resources: list("mutatingwebhookconfigurations"), Verbs: list("get", "update", "delete"), ResourceNames: list("cdi-api-pvc-mutate")},
		rule(list("security.openshift.io"), list("securitycontextconstraints"), list("patch", "delete")),
		rule(list("", "events.k8s.io"), list("events"), list("create", "patch")),
	}
}

// operatorLocal is table 1.5.
func operatorLocal() []rbacv1.PolicyRule {
	manage := list("get", "list", "watch", "create", "update", "delete")
	return []rbacv1.PolicyRule{
		rule(list(rbac), list("rolebindings", "roles"), manage),
		rule(list(""), list("serviceaccounts", "configmaps", "events", "secrets", "services"),
			list("get", "list", "watch", "create", "update", "patch", "delete")),
		rule(list("apps"), list("deployments", "deployments/finalizers"), manage),
		rule(list("route.openshift.io"), list("routes", "routes/custom-host"), list("get", "list", "watch", "create", "update")),
		rule(list("config.openshift.io"), list("proxies"), read()),
		rule(list("monitoring.coreos.com"), list("servicemonitors", "prometheusrules"), list("get", "list", "watch", "create", "delete", "update", "patch")),
		rule(list("coordination.k8s.io"), list("leases"), list("get", "create", "update")),
	}
}

func operatorExtraLocal() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule(list(rbac), list("rolebindings", "roles"), list("patch")),
		rule(list("apps"), list("deployments"), list("patch")),
		rule(list("policy"), list("poddisruptionbudgets"), list("get", "list", "watch", "create", "update", "patch", "delete")),
		rule(list("coordination.k8s.io"), list("leases"), list("patch")),
	}
}
