package controlplane

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Request is one request in the audit log.
type Request struct{ Verb, Resource, Namespace, Name, Code string }

// Requests reads what a component asked for, but for its lease.
func (cp *ControlPlane) Requests(component string) []Request {
	cp.t.Helper()
	f, err := os.Open(cp.audit)
	if err != nil {
		cp.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var out []Request
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct {
			UserAgent, Verb string
			ObjectRef       struct{ Resource, Subresource, Namespace, Name string }
			ResponseStatus  struct{ Code int }
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || !strings.HasPrefix(e.UserAgent, component) || e.ObjectRef.Resource == "leases" {
			continue
		}
		resource := e.ObjectRef.Resource
		if e.ObjectRef.Subresource != "" {
			resource += "/" + e.ObjectRef.Subresource
		}
		out = append(out, Request{e.Verb, resource, e.ObjectRef.Namespace, e.ObjectRef.Name, fmt.Sprint(e.ResponseStatus.Code)})
	}
	if err := lines.Err(); err != nil {
		cp.t.Fatal(err)
	}
	return out
}

// Writes are the requests that change something, but for the event that tells who leads, once per replica.
func (cp *ControlPlane) Writes(component string) []Request {
	cp.t.Helper()
	return slices.DeleteFunc(cp.Requests(component), func(r Request) bool {
		return r.Verb == "get" || r.Verb == "list" || r.Verb == "watch" || r.Resource == "events" && strings.HasPrefix(r.Name, component+".")
	})
}

// Summary counts requests of one kind, a line each.
func Summary(requests []Request) string {
	count := map[string]int{}
	var order []string
	for _, r := range requests {
		key := r.Verb + " " + r.Resource + " " + r.Code
		if count[key] == 0 {
			order = append(order, key)
		}
		count[key]++
	}
	var b strings.Builder
	for _, key := range order {
		fmt.Fprintf(&b, "%5d %s\n", count[key], key)
	}
	return b.String()
}
