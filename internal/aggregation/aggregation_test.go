package aggregation

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/kubernetes/fake"
	"sigs.k8s.io/controller-runtime/pkg/client"
	crfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"virtctl/internal/certificates/pkitest"
)

func configMap(ca []byte) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: configMapNamespace, Name: configMapName},
		Data: map[string]string{
			"requestheader-client-ca-file":       string(ca),
			"requestheader-username-headers":     `["X-Remote-User"]`,
			"requestheader-group-headers":        `["X-Remote-Group"]`,
			"requestheader-extra-headers-prefix": `["X-Remote-Extra-"]`,
			"requestheader-allowed-names":        `["front-proxy-client"]`,
		},
	}
}

// whoami answers with the identity of the request, or why it has none.
func whoami(t *testing.T, authn authenticator.Request) *httptest.Server {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		response, err := identify(authn, r)
		if err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, err.Error())
			return
		}
		u := response.User
		_ = json.NewEncoder(w).Encode(user.DefaultInfo{Name: u.GetName(), Groups: u.GetGroups(), Extra: u.GetExtra()})
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func ask(t *testing.T, server *httptest.Server, certificate *tls.Certificate, headers map[string]string) (int, string) {
	t.Helper()
	config := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the client is under test, not the server
	if certificate != nil {
		config.Certificates = []tls.Certificate{*certificate}
	}
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequest(http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range headers {
		request.Header.Set(k, v)
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(body)
}

// CVE-2025-64432: any certificate of the aggregator's authority was taken for the aggregator's. Everybody who holds one could
// then name himself system:admin.
func TestOnlyTheAggregatorNamesUsers(t *testing.T) {
	proxies, others := pkitest.New(t, "front-proxy-ca"), pkitest.New(t, "other-ca")
	aggregator, err := NewAggregator(fake.NewClientset(configMap(proxies.PEM)))
	if err != nil {
		t.Fatal(err)
	}
	if aggregator.Ready() == nil {
		t.Error("ready before the ConfigMap was read")
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go aggregator.Run(ctx)
	waitReady(t, aggregator)
	server := whoami(t, aggregator)
	admin := map[string]string{"X-Remote-User": "system:admin", "X-Remote-Group": "system:masters", "X-Remote-Extra-Scopes%2fnode": "n1"}
	pair := func(a *pkitest.Authority, name string) *tls.Certificate {
		p := a.Pair(t, name)
		return &p
	}
	for _, tc := range []struct {
		name        string
		certificate *tls.Certificate
		headers     map[string]string
		code        int
	}{
		{"the aggregator", pair(proxies, "front-proxy-client"), admin, 200},
		{"another certificate of the same authority", pair(proxies, "some-component"), admin, 401},
		{"a certificate of another authority with the right name", pair(others, "front-proxy-client"), admin, 401},
		{"no certificate", nil, admin, 401},
		{"the aggregator without a user", pair(proxies, "front-proxy-client"), nil, 401},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, body := ask(t, server, tc.certificate, tc.headers)
			if code != tc.code {
				t.Errorf("code %d, want %d: %s", code, tc.code, body)
			}
			if code == 200 && (!strings.Contains(body, "system:admin") || !strings.Contains(body, "system:authenticated") ||
				!strings.Contains(body, `"scopes/node":["n1"]`)) {
				t.Errorf("identity %s", body)
			}
		})
	}
}

func waitReady(t *testing.T, a *Aggregator) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for a.Ready() != nil {
		select {
		case <-deadline.C:
			t.Fatal(a.Ready())
		case <-tick.C:
		}
	}
}

func reviewer(t *testing.T, calls *int, answer func(*authorizationv1.SubjectAccessReview) error) *Reviewer {
	scheme := runtime.NewScheme()
	if err := authorizationv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c := crfake.NewClientBuilder().WithScheme(scheme).WithInterceptorFuncs(interceptor.Funcs{
		Create: func(_ context.Context, _ client.WithWatch, o client.Object, _ ...client.CreateOption) error {
			*calls++
			return answer(o.(*authorizationv1.SubjectAccessReview))
		},
	}).Build()
	return NewReviewer(c)
}

func attributesOf(name string) authorizer.AttributesRecord {
	return authorizer.AttributesRecord{
		User: &user.DefaultInfo{Name: name, Groups: []string{"g"}, Extra: map[string][]string{"k": {"v"}}},
		Verb: "update", Namespace: "ns", APIGroup: "subresources.kubevirt.io", APIVersion: "v1", Resource: "virtualmachines", Subresource: "start",
		Name: "vm", ResourceRequest: true,
	}
}

// A permission that is taken away must count within seconds, and asking for every keystroke of a console's set-up must not
// be needed.
func TestReviewsAreRememberedPerQuestion(t *testing.T) {
	calls := 0
	var last authorizationv1.SubjectAccessReviewSpec
	v := reviewer(t, &calls, func(r *authorizationv1.SubjectAccessReview) error {
		last = r.Spec
		r.Status = authorizationv1.SubjectAccessReviewStatus{Allowed: r.Spec.User == "alice", Reason: "because"}
		return nil
	})
	decide := func(a authorizer.AttributesRecord) authorizer.Decision {
		d, _, err := v.Authorize(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for range 2 {
		if decide(attributesOf("alice")) != authorizer.DecisionAllow || calls != 1 {
			t.Errorf("alice: %d calls", calls)
		}
	}
	r := last.ResourceAttributes
	if r.Subresource != "start" || r.Verb != "update" || r.Name != "vm" || last.Groups[0] != "g" || last.Extra["k"][0] != "v" {
		t.Errorf("asked %+v", last)
	}
	if decide(attributesOf("bob")) == authorizer.DecisionAllow || calls != 2 {
		t.Error("bob got alice's answer")
	}
	other := attributesOf("alice")
	other.Subresource = "stop"
	if decide(other); calls != 3 {
		t.Error("another subresource got the same answer")
	}
	elsewhere := attributesOf("alice")
	elsewhere.Namespace = "other"
	if decide(elsewhere); calls != 4 {
		t.Error("another namespace got the same answer")
	}
	if lifetime(authorizationv1.SubjectAccessReviewStatus{}) >= lifetime(authorizationv1.SubjectAccessReviewStatus{Allowed: true}) {
		t.Error("refusals are remembered as long as permissions")
	}
}

func TestDeniedBeatsAllowed(t *testing.T) {
	calls := 0
	v := reviewer(t, &calls, func(r *authorizationv1.SubjectAccessReview) error {
		r.Status = authorizationv1.SubjectAccessReviewStatus{Allowed: true, Denied: true}
		return nil
	})
	if d, _, _ := v.Authorize(t.Context(), attributesOf("alice")); d != authorizer.DecisionDeny {
		t.Errorf("decision %v", d)
	}
}

// When nobody can be asked, nobody is let in, and the client learns that it is not his fault.
func TestAnUnreachableAPIServerIsNoPermission(t *testing.T) {
	calls := 0
	v := reviewer(t, &calls, func(*authorizationv1.SubjectAccessReview) error { return io.ErrUnexpectedEOF })
	g := Guard{
		Authz: v, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Authn: authenticator.RequestFunc(func(*http.Request) (*authenticator.Response, bool, error) {
			return &authenticator.Response{User: &user.DefaultInfo{Name: "alice"}}, true, nil
		}),
	}
	h := g.Wrap(Route{Verb: "get", Resource: "x"}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("let in")
	}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != http.StatusInternalServerError {
		t.Errorf("code %d", w.Code)
	}
}
