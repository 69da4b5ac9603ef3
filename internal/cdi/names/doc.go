// Package names holds the words of CDI's public contract: annotations, labels, environment variables, ports, paths, object
// names and reasons of events, exactly as other programs read and write them. It imports nothing, so that the CLI, the
// workers and the cluster's roles can all use it.
//
// Phases and condition types are typed constants of kubevirt.io/containerized-data-importer-api.
package names
