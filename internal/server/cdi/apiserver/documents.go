package apiserver

import (
	"sort"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"virtctl/internal/cdi/uploadapi"
)

// resourceList is the discovery document of one version.
func resourceList(version string) *metav1.APIResourceList {
	return &metav1.APIResourceList{
		TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: uploadapi.Group + "/" + version,
		APIResources: []metav1.APIResource{
			{
				Name: uploadapi.TokenRequests, SingularName: "uploadtokenrequest", Namespaced: true, Group: uploadapi.Group, Version: version,
				Kind: kind, Verbs: metav1.Verbs{"create"}, ShortNames: []string{"utr", "utrs"},
			},
			{Name: uploadapi.Uploads + "/" + uploadapi.Proxy, Namespaced: true, Kind: "Upload", Verbs: metav1.Verbs{"create", "get"}},
		},
	}
}

func group() *metav1.APIGroup {
	g := &metav1.APIGroup{TypeMeta: metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}, Name: uploadapi.Group}
	for _, v := range uploadapi.Versions() {
		g.Versions = append(g.Versions, metav1.GroupVersionForDiscovery{GroupVersion: uploadapi.Group + "/" + v, Version: v})
	}
	g.PreferredVersion = g.Versions[0]
	return g
}

func groupList() *metav1.APIGroupList {
	return &metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: []metav1.APIGroup{*group()}}
}

func rootPaths() *metav1.RootPaths {
	paths := []string{"/apis", "/apis/" + uploadapi.Group, "/healthz", "/openapi/v2", "/openapi/v3", "/readyz"}
	for _, v := range uploadapi.Versions() {
		paths = append(paths, "/apis/"+uploadapi.Group+"/"+v)
	}
	sort.Strings(paths)
	return &metav1.RootPaths{Paths: paths}
}

type object = map[string]any

func info(release string) object {
	return object{"title": "CDI upload API", "description": "Uploads into claims.", "version": release}
}

// requestSchema is what an UploadTokenRequest is made of. Metadata is the API server's.
func requestSchema(version string) object {
	text := func(description string) object { return object{"type": "string", "description": description} }
	return object{
		"type": "object", "description": "A request for a token that allows to upload into a claim.", "required": []string{"spec"},
		"properties": object{
			"apiVersion": text("Version of the object's schema."), "kind": text("The object's kind."), "metadata": object{"type": "object"},
			"spec": object{
				"type": "object", "required": []string{"pvcName"}, "properties": object{"pvcName": text("The claim to upload into.")},
			},
			"status": object{"type": "object", "properties": object{"token": text("Shown to the upload proxy as a bearer token.")}},
		},
		"x-kubernetes-group-version-kind": []object{{"group": uploadapi.Group, "version": version, "kind": kind}},
	}
}

func definition(version string) string { return "io.kubevirt.cdi.upload." + version + "." + kind }

func paths(version string, operation func(id, summary, verb string, body bool) object, parameter func(name string) object) object {
	base := "/apis/" + uploadapi.Group + "/" + version + "/namespaces/{namespace}/"
	namespace, name, endpoint := parameter("namespace"), parameter("name"), parameter("endpoint")
	return object{
		base + uploadapi.TokenRequests: object{
			"post": operation("create"+kind+version, "Get a token that allows to upload into a claim", "post", true), "parameters": []object{namespace},
		},
		base + uploadapi.Uploads + "/{name}/" + uploadapi.Proxy + "/{endpoint}": object{
			"post":       operation("upload"+version, "Upload into a claim", "connect", false),
			"head":       operation("uploadState"+version, "Ask how far an upload has come", "connect", false),
			"parameters": []object{namespace, name, endpoint},
		},
	}
}

func openAPIv2(release string) any {
	all, definitions := object{}, object{}
	for _, v := range uploadapi.Versions() {
		ref := object{"$ref": "#/definitions/" + definition(v)}
		definitions[definition(v)] = requestSchema(v)
		operation := func(id, summary, action string, body bool) object {
			o := object{
				"operationId": id, "summary": summary, "tags": []string{"upload_" + v}, "consumes": []string{"*/*"}, "produces": []string{"*/*"},
				"responses": object{"200": object{"description": "OK"}, "401": object{"description": "Unauthorized"}},
			}
			if body {
				o["parameters"] = []object{{"name": "body", "in": "body", "required": true, "schema": ref}}
				o["responses"] = object{"201": object{"description": "Created", "schema": ref}, "401": object{"description": "Unauthorized"}}
				o["x-kubernetes-action"] = action
				o["x-kubernetes-group-version-kind"] = object{"group": uploadapi.Group, "version": v, "kind": kind}
			}
			return o
		}
		for path, item := range paths(v, operation, func(name string) object {
			return object{"name": name, "in": "path", "required": true, "type": "string", "uniqueItems": true}
		}) {
			all[path] = item
		}
	}
	return object{"swagger": "2.0", "info": info(release), "paths": all, "definitions": definitions}
}

func openAPIv3Index(release string) any {
	all := object{}
	for _, v := range uploadapi.Versions() {
		at := "apis/" + uploadapi.Group + "/" + v
		all[at] = object{"serverRelativeURL": "/openapi/v3/" + at + "?hash=" + release}
	}
	return object{"paths": all}
}

func openAPIv3(v, release string) any {
	media := object{"*/*": object{"schema": object{"$ref": "#/components/schemas/" + definition(v)}}}
	operation := func(id, summary, action string, body bool) object {
		o := object{
			"operationId": id, "summary": summary, "tags": []string{"upload_" + v},
			"responses": object{"200": object{"description": "OK"}, "401": object{"description": "Unauthorized"}},
		}
		if body {
			o["requestBody"] = object{"content": media}
			o["responses"] = object{"201": object{"description": "Created", "content": media}, "401": object{"description": "Unauthorized"}}
			o["x-kubernetes-action"] = action
			o["x-kubernetes-group-version-kind"] = object{"group": uploadapi.Group, "version": v, "kind": kind}
		}
		return o
	}
	return object{
		"openapi": "3.0.0", "info": info(release),
		"paths": paths(v, operation, func(name string) object {
			return object{"name": name, "in": "path", "required": true, "schema": object{"type": "string"}}
		}),
		"components": object{"schemas": object{definition(v): requestSchema(v)}},
	}
}
