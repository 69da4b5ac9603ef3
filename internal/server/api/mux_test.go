package api

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"virtctl/internal/aggregation"
	"virtctl/internal/clusterconfig"
	"virtctl/internal/server/api/admission"
	"virtctl/internal/server/api/admission/review"
	"virtctl/internal/server/api/expand"
	"virtctl/internal/server/api/routes"
	"virtctl/internal/server/api/subresource"
)

// asked is one access review.
type asked struct{ verb, group, version, resource, subresource, namespace, name, user string }

// judge records access reviews and answers them all alike.
type judge struct {
	allow bool
	asked []asked
}

func (j *judge) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	j.asked = append(j.asked, asked{
		a.GetVerb(), a.GetAPIGroup(), a.GetAPIVersion(), a.GetResource(), a.GetSubresource(),
		a.GetNamespace(), a.GetName(), a.GetUser().GetName(),
	})
	if j.allow {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionNoOpinion, "no rule says so", nil
}

func known(name string) authenticator.Request {
	return authenticator.RequestFunc(func(*http.Request) (*authenticator.Response, bool, error) {
		return &authenticator.Response{User: &user.DefaultInfo{Name: name}}, name != "", nil
	})
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// testServer answers every route with the name of its handler.
func testServer(authn authenticator.Request, authz authorizer.Authorizer) http.Handler {
	named := map[routes.Handler]http.Handler{}
	for _, r := range routes.All() {
		named[r.Handler] = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, string(r.Handler)) })
	}
	reviews := map[admission.Handler]http.Handler{}
	for _, h := range admission.Hooks() {
		reviews[h.Handler] = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, string(h.Handler)) })
	}
	return newHandler(handlers{
		guard:        aggregation.Guard{Authn: authn, Authz: authz, Log: quiet()},
		subresources: named, reviews: reviews, health: &health{}, config: &clusterconfig.Source{}, metrics: newMetrics((&health{}).ready).handler(), log: quiet(),
	})
}

func do(h http.Handler, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

func concrete(path string) string {
	return strings.NewReplacer("{namespace}", "ns1", "{name}", "vm1", "{port}", "22", "{protocol}", "tcp").Replace(path)
}

// expectation reads from a request's path what must be reviewed, in another way than the server does: everything after the
// name, without what follows portforward. CVE-2026-6383 was a server that looked at the first part only.
func expectation(method, path, who string) asked {
	parts := strings.Split(strings.TrimPrefix(path, "/apis/subresources.kubevirt.io/"), "/")
	a := asked{verb: "get", group: "subresources.kubevirt.io", version: parts[0], namespace: parts[2], resource: parts[3], user: who}
	if method == http.MethodPut {
		a.verb = "update"
	}
	if len(parts) > 4 {
		a.name = parts[4]
		a.subresource = strings.Join(parts[5:], "/")
		if strings.HasPrefix(a.subresource, "portforward/") {
			a.subresource = "portforward"
		}
	}
	return a
}

// Whoever may use one subresource must not get another through it.
func TestEveryRouteIsReviewedExactly(t *testing.T) {
	for _, version := range routes.Versions() {
		for _, r := range routes.All() {
			path := concrete(r.Path(version))
			allow := &judge{allow: true}
			if w := do(testServer(known("alice"), allow), r.Method, path); w.Body.String() != string(r.Handler) {
				t.Errorf("%s %s: answered by %q (%d), want %s", r.Method, path, w.Body, w.Code, r.Handler)
			}
			if r.Public {
				if len(allow.asked) != 0 {
					t.Errorf("%s %s is public but was reviewed", r.Method, path)
				}
				continue
			}
			want := expectation(r.Method, path, "alice")
			if len(allow.asked) != 1 || allow.asked[0] != want {
				t.Errorf("%s %s: reviewed %+v, want %+v", r.Method, path, allow.asked, want)
			}
			w := do(testServer(known("bob"), &judge{}), r.Method, path)
			status := metav1.Status{}
			if err := json.Unmarshal(w.Body.Bytes(), &status); err != nil || w.Code != http.StatusForbidden || status.Reason != metav1.StatusReasonForbidden {
				t.Errorf("%s %s without permission: %d %s", r.Method, path, w.Code, w.Body)
			}
			for _, missing := range []string{`"bob"`, want.verb, `"` + strings.TrimSuffix(want.resource+"/"+want.subresource, "/") + `"`, `"ns1"`} {
				if !strings.Contains(status.Message, missing) {
					t.Errorf("%s %s: the refusal %q does not say %s", r.Method, path, status.Message, missing)
				}
			}
			if w := do(testServer(known(""), allow), r.Method, path); w.Code != http.StatusUnauthorized {
				t.Errorf("%s %s without identity: %d", r.Method, path, w.Code)
			}
		}
	}
}

func TestOddRequests(t *testing.T) {
	const base = "/apis/subresources.kubevirt.io/v1/namespaces/"
	for _, tc := range []struct {
		name, method, path string
		code               int
	}{
		{"wrong method", "POST", base + "ns1/virtualmachines/vm1/start", 405},
		{"wrong method for a stream", "PUT", base + "ns1/virtualmachineinstances/vm1/console", 405},
		{"subresource of the other resource", "PUT", base + "ns1/virtualmachineinstances/vm1/start", 404},
		{"deeper than the route", "GET", base + "ns1/virtualmachineinstances/vm1/console/screenshot", 404},
		{"deeper than a screenshot", "GET", base + "ns1/virtualmachineinstances/vm1/vnc/screenshot/x", 404},
		{"other resource", "PUT", base + "ns1/pods/vm1/start", 404},
		{"slash in the name", "PUT", base + "ns1/virtualmachines/a%2Fb/start", 400},
		{"percent in the name", "PUT", base + "ns1/virtualmachines/a%25b/start", 400},
		{"dots as a name", "PUT", base + "ns1/virtualmachines/%2e%2e/start", 400},
		{"slash in the namespace", "PUT", base + "a%2Fb/virtualmachines/vm1/start", 400},
		{"unknown path", "GET", "/api/v1/secrets", 404},
		{"webhook by GET", "GET", "/virtualmachines-validate", 405},
	} {
		t.Run(tc.name, func(t *testing.T) {
			j := &judge{allow: true}
			w := do(testServer(known("alice"), j), tc.method, tc.path)
			status := metav1.Status{}
			if err := json.Unmarshal(w.Body.Bytes(), &status); err != nil {
				t.Errorf("not a Status: %s", w.Body)
			}
			if w.Code != tc.code || int(status.Code) != tc.code {
				t.Errorf("code %d (%d), want %d: %s", w.Code, status.Code, tc.code, w.Body)
			}
			if len(j.asked) != 0 {
				t.Errorf("reviewed %+v", j.asked)
			}
		})
	}
}

// The API server asks for these before it believes that we are there, and without an identity.
func TestDocumentsNeedNoIdentity(t *testing.T) {
	h := testServer(known(""), &judge{})
	for path, contains := range map[string]string{
		"/": "/apis/subresources.kubevirt.io/v1", "/apis": "APIGroupList", "/apis/subresources.kubevirt.io": `"preferredVersion"`,
		"/apis/subresources.kubevirt.io/v1": "virtualmachines/start", "/apis/subresources.kubevirt.io/v1alpha3": "virtualmachineinstances/vnc/screenshot",
		"/openapi/v2": `"swagger":"2.0"`, "/openapi/v3": "serverRelativeURL", "/openapi/v3/apis/subresources.kubevirt.io/v1": `"openapi":"3.0.0"`,
		"/healthz": "ok", "/metrics": "kubevirt_info",
		"/apis/subresources.kubevirt.io/v1/healthz": "Healthz", "/apis/subresources.kubevirt.io/v1/version": "Version",
	} {
		w := do(h, "GET", path)
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), contains) {
			t.Errorf("GET %s: %d, no %q in %.200s", path, w.Code, contains, w.Body)
		}
	}
}

func TestEveryWebhookIsServed(t *testing.T) {
	h := testServer(known(""), &judge{})
	for _, hook := range admission.Hooks() {
		if w := do(h, "POST", hook.Path); w.Body.String() != string(hook.Handler) {
			t.Errorf("POST %s: answered by %q, want %s", hook.Path, w.Body, hook.Handler)
		}
	}
}

// A handler that is missing would be a nil pointer at the first request.
func TestEveryHandlerExists(t *testing.T) {
	subresources := (&subresource.Server{Config: &clusterconfig.Source{}}).Handlers()
	for _, r := range routes.All() {
		if subresources[r.Handler] == nil {
			t.Errorf("no handler %s", r.Handler)
		}
	}
	reviews := (&review.Server{Config: &clusterconfig.Source{}, Expander: expand.Literal{}}).Handlers()
	for _, h := range admission.Hooks() {
		if reviews[h.Handler] == nil {
			t.Errorf("no handler %s", h.Handler)
		}
	}
}

func TestABugIsAnErrorOfItsRequest(t *testing.T) {
	h := aggregation.Shield("virt-api", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("oops") }), quiet())
	w := do(h, "GET", "/")
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "oops") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestReadiness(t *testing.T) {
	h := &health{}
	if h.ready() == nil {
		t.Error("ready before the cache has synced")
	}
	h.synced.Store(true)
	if err := h.ready(); err != nil {
		t.Error(err)
	}
	h.draining.Store(true)
	if h.ready() == nil {
		t.Error("ready while shutting down")
	}
}
