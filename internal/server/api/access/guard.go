// Package access lets only those through to a route of the table who may use it.
package access

import (
	"net/http"

	"virtctl/internal/aggregation"
	"virtctl/internal/server/api/routes"
)

// Wrap guards the handler of a route: a public one answers everybody who names things as Kubernetes does, every other one only who
// is allowed exactly what the table says.
func Wrap(guard aggregation.Guard, route routes.Route, version string, next http.Handler) http.Handler {
	var parameters []string
	switch route.Scope {
	case routes.Named:
		parameters = []string{"namespace", "name"}
	case routes.Namespaced:
		parameters = []string{"namespace"}
	}
	if route.Public {
		return aggregation.Named(parameters, next)
	}
	return guard.Wrap(aggregation.Route{
		Verb: route.Verb(), Group: routes.Group, Version: version, Resource: route.Resource, Subresource: route.Subresource, Parameters: parameters,
	}, next)
}
