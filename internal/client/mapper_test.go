package client_test

import (
	"io"
	"net/http"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"virtctl/internal/client"
)

// A kind whose definition has just been made is found as soon as the server serves it; what is known is not asked for again.
func TestMapper(t *testing.T) {
	served, asked := false, 0
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/version":
			_, _ = io.WriteString(w, `{"gitVersion":"v1.36.3"}`)
		case "/api/v1":
			asked++
			_, _ = io.WriteString(w, `{"resources":[{"name":"nodes/status","kind":"Node"},{"name":"nodes","kind":"Node"},{"name":"pods","kind":"Pod","namespaced":true}]}`)
		case "/apis/kubevirt.io/v1":
			if !served {
				http.NotFound(w, r)
				return
			}
			_, _ = io.WriteString(w, `{"resources":[{"name":"kubevirts","kind":"KubeVirt","namespaced":true}]}`)
		default:
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"no","reason":"Forbidden","code":403}`)
		}
	}, nil)
	m := client.NewMapper(c)
	for _, test := range []struct {
		kind, resource string
		scope          meta.RESTScope
	}{{"Node", "nodes", meta.RESTScopeRoot}, {"Pod", "pods", meta.RESTScopeNamespace}} {
		found, err := m.RESTMapping(schema.GroupKind{Kind: test.kind}, "v1")
		if err != nil || found.Resource.Resource != test.resource || found.Scope != test.scope {
			t.Errorf("%s: %+v, %v", test.kind, found, err)
		}
	}
	kubevirt := schema.GroupKind{Group: "kubevirt.io", Kind: "KubeVirt"}
	if _, err := m.RESTMapping(kubevirt, "v1"); !meta.IsNoMatchError(err) {
		t.Errorf("a kind that is not served: %v", err)
	}
	served = true
	if found, err := m.RESTMapping(kubevirt, "v1"); err != nil || found.Resource.Resource != "kubevirts" {
		t.Errorf("a kind served since: %+v, %v", found, err)
	}
	if _, err := m.RESTMapping(schema.GroupKind{Group: "secret", Kind: "X"}, "v1"); err == nil || meta.IsNoMatchError(err) {
		t.Errorf("a group that may not be read: %v", err)
	}
	if asked != 1 {
		t.Errorf("the core group was asked for %d times", asked)
	}
	m.Reset()
	if _, err := m.RESTMapping(schema.GroupKind{Kind: "Pod"}, "v1"); err != nil || asked != 2 {
		t.Errorf("after a reset: %v, asked %d times", err, asked)
	}
	if info, err := c.KubernetesVersion(t.Context()); err != nil || info.GitVersion != "v1.36.3" {
		t.Errorf("version %+v, %v", info, err)
	}
}
