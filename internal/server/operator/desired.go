package operator

import (
	"maps"

	"k8s.io/apimachinery/pkg/runtime"

	"virtctl/internal/install/components"
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
