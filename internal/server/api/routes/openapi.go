package routes

import (
	"net/http"
	"sort"
	"strconv"
	"strings"
)

// The OpenAPI documents are minimal: paths, parameters and codes. Clients take the types of the bodies from the group kubevirt.io.

type object = map[string]any

// OpenAPIv2 is the document at /openapi/v2.
func OpenAPIv2(release string) any {
	paths := object{}
	for _, v := range Versions() {
		for _, r := range All() {
			operation := object{
				"operationId": operationID(r, v),
				"summary":     r.Summary,
				"tags":        []string{tag(v)},
				"consumes":    []string{"*/*"},
				"produces":    []string{"application/json"},
				"responses":   responses(r),
			}
			parameters := []object{}
			for _, p := range parameterNames(r) {
				parameters = append(parameters, object{"name": p, "in": "path", "required": true, "type": "string", "uniqueItems": true})
			}
			if r.Method == http.MethodPut && r.Body != "" {
				parameters = append(parameters, object{"name": "body", "in": "body", "schema": object{"type": "object"}})
			}
			if len(parameters) > 0 {
				operation["parameters"] = parameters
			}
			add(paths, r.Path(v), r.Method, operation)
		}
	}
	return object{"swagger": "2.0", "info": info(release), "paths": paths, "definitions": object{}}
}

// OpenAPIv3Index is the document at /openapi/v3.
func OpenAPIv3Index(release string) any {
	paths := object{}
	for _, v := range Versions() {
		at := "apis/" + Group + "/" + v
		paths[at] = object{"serverRelativeURL": "/openapi/v3/" + at + "?hash=" + release}
	}
	return object{"paths": paths}
}

// OpenAPIv3 is the document of one version.
func OpenAPIv3(version, release string) any {
	paths := object{}
	for _, r := range All() {
		operation := object{
			"operationId": operationID(r, version),
			"description": r.Summary,
			"tags":        []string{tag(version)},
			"responses":   responses(r),
		}
		parameters := []object{}
		for _, p := range parameterNames(r) {
			parameters = append(parameters, object{"name": p, "in": "path", "required": true, "schema": object{"type": "string"}})
		}
		if len(parameters) > 0 {
			operation["parameters"] = parameters
		}
		if r.Method == http.MethodPut && r.Body != "" {
			operation["requestBody"] = object{"content": object{"*/*": object{"schema": object{"type": "object"}}}}
		}
		add(paths, r.Path(version), r.Method, operation)
	}
	return object{"openapi": "3.0.0", "info": info(release), "paths": paths}
}

func info(release string) object {
	return object{"title": "KubeVirt API", "description": "Subresources of virtual machines.", "version": release}
}

func tag(version string) string { return "subresources_kubevirt_io_" + version }

func responses(r Route) object {
	out := object{strconv.Itoa(r.Success): object{"description": http.StatusText(r.Success)}}
	if !r.Public {
		out["401"] = object{"description": http.StatusText(http.StatusUnauthorized)}
		out["403"] = object{"description": http.StatusText(http.StatusForbidden)}
	}
	if r.Scope == Named {
		out["404"] = object{"description": http.StatusText(http.StatusNotFound)}
		out["409"] = object{"description": http.StatusText(http.StatusConflict)}
	}
	return out
}

func add(paths object, path, method string, operation object) {
	item, ok := paths[path].(object)
	if !ok {
		item = object{}
		paths[path] = item
	}
	item[strings.ToLower(method)] = operation
}

func parameterNames(r Route) []string {
	var out []string
	if r.Scope != Cluster {
		out = append(out, "namespace")
	}
	if r.Scope == Named {
		out = append(out, "name")
	}
	out = append(out, r.Tail...)
	sort.Strings(out)
	return out
}

// operationID is unique in all documents that the Kubernetes API server merges.
func operationID(r Route, version string) string {
	id := version + string(r.Handler)
	if len(r.Tail) > 1 {
		id += "WithProtocol"
	}
	return id
}
