package operator

import (
	"maps"

	"k8s.io/apimachinery/pkg/runtime"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/install/components"
	"virtctl/internal/instancetype/catalog"
	"virtctl/internal/server/api/admission"
	"virtctl/internal/server/api/routes"
)

// static is everything installed before the workloads. What users may do on subresources is what virt-api serves.
func static(opts components.Options) []runtime.Object {
	return components.Static(opts, routes.ClusterRoles())
}

// registrations is everything that makes the API server call virt-api: exactly the webhooks it serves.
func registrations(opts components.Options) []runtime.Object {
	hooks := admission.Webhooks(opts.Namespace, opts.CABundle)
	ours := opts.Meta("", components.APIName).Labels
	hooks.Mutating.Labels = maps.Clone(ours)
	hooks.Validating.Labels = maps.Clone(ours)
	return components.Registrations(opts, []runtime.Object{hooks.Mutating, hooks.Validating})
}

// commonTypes are the instance types and preferences every installation brings, unless the configuration says otherwise.
func commonTypes(kv *v1.KubeVirt) []runtime.Object {
	if c := kv.Spec.Configuration.CommonInstancetypesDeployment; c != nil && c.Enabled != nil && !*c.Enabled {
		return nil
	}
	var out []runtime.Object
	for _, it := range catalog.Instancetypes() {
		it.Labels[components.ManagedByLabel] = components.ManagedBy
		out = append(out, it)
	}
	for _, p := range catalog.Preferences() {
		p.Labels[components.ManagedByLabel] = components.ManagedBy
		out = append(out, p)
	}
	return out
}
