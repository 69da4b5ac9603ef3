package routes

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
)

// ClusterRoles gives, by name of the users' cluster role, what the role grants on subresources.
// The operator adds what the roles grant on the objects themselves.
func ClusterRoles() map[string][]rbacv1.PolicyRule {
	return map[string][]rbacv1.PolicyRule{
		"kubevirt.io:default": rules(Default),
		"kubevirt.io:view":    rules(View),
		"kubevirt.io:edit":    rules(Edit),
		"kubevirt.io:admin":   rules(Admin),
		"kubevirt.io:migrate": rules(Migrate),
	}
}

func rules(role Roles) []rbacv1.PolicyRule {
	granted := map[string][]string{}
	for _, r := range All() {
		if r.Roles&role == 0 {
			continue
		}
		verb := r.Verb()
		granted[verb] = append(granted[verb], resources(r)...)
	}
	var out []rbacv1.PolicyRule
	for _, verb := range []string{"list", "get", "update"} {
		names := granted[verb]
		if len(names) == 0 {
			continue
		}
		slices.Sort(names)
		verbs := []string{verb}
		if verb == "list" {
			// A GET without a name is a list for Kubernetes; "get" is in the public contract as well.
			verbs = []string{"get", "list"}
		}
		out = append(out, rbacv1.PolicyRule{APIGroups: []string{Group}, Resources: slices.Compact(names), Verbs: verbs})
	}
	return out
}

// resources are what a role must name to let a request through. virt-api reviews the exact subresource; the Kubernetes API
// server in front of it reviews only the first part of it ("evacuate" of "evacuate/cancel"), and both must allow.
// Granting the first part alone opens nothing: no route answers to it unless the table has one.
func resources(r Route) []string {
	first, _, nested := strings.Cut(r.Subresource, "/")
	if !nested {
		return []string{r.Name()}
	}
	front := r.Resource + "/" + first
	for _, other := range All() {
		if other.Name() == front {
			return []string{r.Name()}
		}
	}
	return []string{front, r.Name()}
}
