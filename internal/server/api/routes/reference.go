package routes

import (
	"fmt"
	"strings"
)

// Reference is docs/reference/subresources.md.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Subresources

Generated from the table in internal/server/api/routes; refresh with ` + "`UPDATE=1 go test ./internal/server/api/routes`" + `.

All paths are below ` + "`/apis/" + Group + "/v1`" + ` (and ` + "`v1alpha3`" + `). *Access* is what the user must be allowed, as
"verb resource/subresource" in the API group ` + "`" + Group + "`" + `; *roles* are the cluster roles (` + "`kubevirt.io:<role>`" + `) that allow it.
Streams are websockets with the subprotocol ` + "`plain.kubevirt.io`" + `: binary messages that carry a plain byte stream.
Errors are Kubernetes ` + "`Status`" + ` objects: 401 without a valid identity, 403 when access is missing, 404 for an unknown object,
409 when the object's state does not allow the request.

| method and path | body | answer | access | roles | |
|---|---|---|---|---|---|
`)
	for _, r := range All() {
		fmt.Fprintf(&b, "| %s `%s` | %s | %s | %s | %s | %s |\n", r.Method,
			strings.TrimPrefix(r.Path("v1"), "/apis/"+Group+"/v1"), r.Body, answer(r), access(r), roleNames(r.Roles), r.Summary)
	}
	return b.String()
}

func answer(r Route) string {
	if r.Stream {
		return "stream"
	}
	return fmt.Sprint(r.Success)
}

func access(r Route) string {
	if r.Public {
		return "none"
	}
	return "`" + r.Verb() + " " + r.Name() + "`"
}

func roleNames(set Roles) string {
	var names []string
	for _, role := range []struct {
		bit  Roles
		name string
	}{{Default, "default"}, {View, "view"}, {Edit, "edit"}, {Admin, "admin"}, {Migrate, "migrate"}} {
		if set&role.bit != 0 {
			names = append(names, role.name)
		}
	}
	return strings.Join(names, ", ")
}
